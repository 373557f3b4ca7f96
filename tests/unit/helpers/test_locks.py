"""File locks between processes."""

import os
import subprocess
import sys

import pytest

from milozero.helpers.errors import UserError
from milozero.helpers.locks import Lock, is_held

HOLD = """
import sys, time, pathlib
from milozero.helpers.locks import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_process_holds_the_lock_until_it_ends_even_if_it_is_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"in use by process {holder.pid} on "):
        Lock(tmp_path, local_timeout=0.3)
    holder.kill()
    holder.wait()
    Lock(tmp_path)


def test_lock_does_not_write_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("data")
    (tmp_path / ".lock").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic"):
        Lock(tmp_path)
    assert (tmp_path / "precious").read_text() == "data"


def test_pipe_in_place_of_the_lock_does_not_block_its_readers(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    assert is_held(tmp_path) is False
