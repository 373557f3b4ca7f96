import subprocess
import sys

import pytest

from milozero.helpers.errors import UserError
from milozero.helpers.locks import Lock

HOLD = """
import sys, time, pathlib
from milozero.helpers.locks import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_folder_belongs_to_one_process_until_that_ends_however_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("milozero.helpers.locks.LOCAL_TIMEOUT_S", 0.3)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"in use by process {holder.pid} on "):
        Lock(tmp_path)
    holder.kill()
    holder.wait()
    Lock(tmp_path)
