"""Import matplotlib in a new process."""

import os
import subprocess
import sys

from tests.support import ROOT

SCRIPT = """
import os
from milozero.helpers import drawing
assert os.environ["MPLBACKEND"] == "inline-of-another-environment"
assert drawing.mpl.rcParamsDefault
"""


def start(tmp_path, script):
    environment = os.environ | {"MPLBACKEND": "inline-of-another-environment", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


def test_backend_of_a_notebook_is_ignored_and_kept(tmp_path):
    done = start(tmp_path, SCRIPT)
    assert done.returncode == 0, done.stderr


def test_broken_configuration_is_a_user_error(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    done = start(tmp_path, SCRIPT)
    assert "UserError: cannot import matplotlib: UnicodeDecodeError" in done.stderr.splitlines()[-1]
