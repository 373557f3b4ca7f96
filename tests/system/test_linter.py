"""`super_linter.sh` on a small project."""

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
    """Create a clean project with this repository's rules; returns its folder."""
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


def test_clean_project_passes(project):
    done = lint(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "files to rework" not in done.stdout


def test_linter_lists_files_to_rework_and_fix_repairs_them(project):
    (project / "untidy.py").write_text('"""Untidy."""\n\nimport os\nx = [1,2]\n')
    (project / "types.sh").write_text("#!/bin/bash\necho $1\n")
    (project / "good.py").write_text('"""Good no more."""\n\nx: int = "one"\n')
    done = lint(project)
    assert done.returncode == 1
    rework = done.stdout.split("files to rework")[1].splitlines()[1:]
    assert [line.split()[0] for line in rework] == ["good.py", "types.sh", "untidy.py"]

    repaired = lint(project, "--fix")
    assert repaired.returncode == 1  # some problems need a person
    assert (project / "untidy.py").read_text() == '"""Untidy."""\n\nx = [1, 2]\n'
    rework = repaired.stdout.split("files to rework")[1].splitlines()[1:]
    assert [line.split()[0] for line in rework] == ["good.py", "types.sh"]


def test_invalid_python_is_listed_and_not_changed(project):
    (project / "broken.py").write_text("def f(:\n")
    done = lint(project, "--fix")
    assert done.returncode == 1
    assert "  broken.py (" in done.stdout
    assert (project / "broken.py").read_text() == "def f(:\n"


def test_missing_tool_is_an_error(project, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "env"):
        (programs / name).symlink_to(shutil.which(name))
    done = lint(project, path=str(programs))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: ruff is missing; run: pip install -r requirements-dev.txt\n"


def test_unknown_flag_is_an_error(project):
    assert lint(project, "--repair").returncode == 2
