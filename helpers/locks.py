"""One process at a time in an experiment's folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path

from milozero.helpers.errors import UserError

# Seconds to wait. Workers whose launcher was killed take a moment to notice; and of a machine that went down, a file
# server holds the locks until their lease ends, by default after 90 seconds.
LOCAL_TIMEOUT_S, REMOTE_TIMEOUT_S = 5.0, 100.0


class Lock:
    """Holds a folder until it is released or this process ends, however it ends.

    Raises:
        UserError: where another process holds it and does not let go in time.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take(folder)
        except BaseException:
            self.release()
            raise

    def _take(self, folder: Path) -> None:
        began, host = time.monotonic(), socket.gethostname()
        while not self._taken():
            holder = os.pread(self._file, 200, 0).decode(errors="replace")
            patience = LOCAL_TIMEOUT_S if holder.endswith(f" on {host}") else REMOTE_TIMEOUT_S
            if time.monotonic() > began + patience:
                raise UserError(f"{folder} is in use by {holder}; one process at a time can use it")
            time.sleep(0.2)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()} on {host}".encode(), 0)

    def release(self) -> None:
        """Let other processes have the folder, also while a child of this one still has the file open."""
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: nothing to be had
            return True
        return True


def is_held(folder: Path) -> bool | None:
    """Tell whether a process holds a folder, on any machine that shares it; None where that cannot be known."""
    try:
        file = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for an instant; who wants to take it tries again
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(file)
    return False
