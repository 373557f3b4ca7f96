"""Users' modules take precedence over the repository's of the same name."""

import importlib
import sys

import pytest

from milozero.environments.probe import find_crash
from milozero.helpers.import_path import search_repository_last
from tests.support import ROOT

ABORTING = """
from helpers import SPEED
from environments.maze import WIDTH
import gymnasium, os
gymnasium.register("Aborting-v1", lambda: os.abort())
"""


@pytest.fixture
def import_path(monkeypatch, tmp_path):
    """Search the repository first, as ``python main.py`` does, and a user's folder later; return the folder."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *(path for path in sys.path if path != str(ROOT)), str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write_modules(folder, *, is_package):
    """Write modules and a package whose names the repository has too."""
    (folder / "environments").mkdir()
    (folder / "helpers.py").write_text("SPEED = 3\n")
    (folder / "environments/maze.py").write_text("WIDTH = 4\n")
    if is_package:
        (folder / "environments/__init__.py").touch()


@pytest.mark.parametrize("is_package", [True, False], ids=["package", "namespace package"])
def test_users_modules_hide_ours(import_path, is_package):
    write_modules(import_path, is_package=is_package)
    search_repository_last()
    search_repository_last()  # changes nothing
    assert importlib.import_module("helpers").SPEED == 3
    assert importlib.import_module("environments.maze").WIDTH == 4
    assert sys.path[-1] == str(ROOT)
    assert len([path for path in sys.path if path == str(ROOT)]) == 1


def test_modules_in_the_repository_are_still_found(import_path):
    search_repository_last()
    assert importlib.util.find_spec("orchestrator").origin == str(ROOT / "orchestrator.py")


def test_process_that_probes_an_environment_finds_users_modules(import_path, monkeypatch):
    write_modules(import_path, is_package=False)
    (import_path / "abort_at_once.py").write_text(ABORTING)
    monkeypatch.setitem(sys.modules, "abort_at_once", None)  # the user has named it
    assert find_crash("abort_at_once:Aborting-v1", None, {}) == "SIGABRT"
