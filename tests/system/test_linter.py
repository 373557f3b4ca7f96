"""`super_linter.sh`, in a small project of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.fixture
def project(tmp_path):
    """Make a project with this one's rules and nothing to complain of; returns its folder."""
    shutil.copy(ROOT / "super_linter.sh", tmp_path)
    rules = (ROOT / "pyproject.toml").read_text()
    assert rules.count("\npackages = [") == 1  # mypy's
    (tmp_path / "pyproject.toml").write_text(re.sub(r"\npackages = \[.*", '\nfiles = ["good.py"]', rules))
    (tmp_path / "good.py").write_text('"""Good."""\n\nx: int = 1\n')
    return tmp_path


def lint(project, *flags, path=None):
    environment = os.environ | {"PATH": path or f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        [project / "super_linter.sh", *flags], env=environment, capture_output=True, text=True, timeout=120
    )


def test_nothing_to_rework(project):
    done = lint(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "files to rework" not in done.stdout


def test_names_the_files_and_repairs_what_can_be(project):
    (project / "untidy.py").write_text('"""Untidy."""\n\nimport os\nx = [1,2]\n')
    (project / "types.sh").write_text("#!/bin/bash\necho $1\n")
    (project / "good.py").write_text('"""Good no more."""\n\nx: int = "one"\n')
    done = lint(project)
    assert done.returncode == 1
    listed = done.stdout.split("files to rework")[1].splitlines()[1:]
    assert [line.split()[0] for line in listed] == ["good.py", "types.sh", "untidy.py"]

    repaired = lint(project, "--fix")
    assert repaired.returncode == 1  # what only a person can mend is left
    assert (project / "untidy.py").read_text() == '"""Untidy."""\n\nx = [1, 2]\n'
    listed = repaired.stdout.split("files to rework")[1].splitlines()[1:]
    assert [line.split()[0] for line in listed] == ["good.py", "types.sh"]


def test_file_that_is_no_python(project):
    (project / "broken.py").write_text("def f(:\n")
    done = lint(project, "--fix")
    assert done.returncode == 1
    assert "  broken.py (" in done.stdout
    assert (project / "broken.py").read_text() == "def f(:\n"


def test_tool_that_is_missing(project, tmp_path):
    only = tmp_path / "bin"
    only.mkdir()
    for name in ("bash", "dirname", "env"):
        (only / name).symlink_to(shutil.which(name))
    done = lint(project, path=str(only))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: ruff is missing; run: pip install -r requirements-dev.txt\n"


def test_flag_that_it_does_not_know(project):
    assert lint(project, "--repair").returncode == 2
