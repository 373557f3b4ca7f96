"""Closed standard streams, in separate processes."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

SCRIPT = """
import os, sys
from milozero.helpers.logging import flush_stdio, log_to_terminal, logger
with log_to_terminal():
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
    logger.info("to stdout")
    logger.warning("to stderr")
    os.system("echo from a child; echo from a child >&2")
    print(sys.stdout.isatty(), sys.stderr.isatty(), sys.stdin.read())
flush_stdio()
os.write(file, b"data")
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&- >&-"])
def test_closed_stream_is_no_error_and_no_other_file_takes_its_place(tmp_path, closed):
    path = tmp_path / "file"
    command = f'exec "$0" -c "$1" "$2" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, SCRIPT, str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == b"data"
    assert ("to stdout" in done.stdout) == (">&-" not in closed.replace("2>&-", "").replace("<&-", ""))
    assert ("to stderr" in done.stderr) == ("2>&-" not in closed)
    assert "Traceback" not in done.stdout + done.stderr
