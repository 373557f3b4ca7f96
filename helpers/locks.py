"""File locks: one process at a time may use an experiment's folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path

from milozero.helpers.errors import UserError

LOCAL_TIMEOUT_S = 5.0  # workers take a moment to notice that their launcher was killed
REMOTE_TIMEOUT_S = 100.0  # a file server releases the locks of a crashed machine after 90 s by default
POLL_INTERVAL_S = 0.2


class Lock:
    """Locks a folder until `release` is called or this process ends, even if it is killed.

    Args:
        folder: the folder to lock.
        local_timeout: seconds to wait for a process on this machine.
        remote_timeout: seconds to wait for a process on another machine.

    Raises:
        UserError: if another process still holds the lock after the timeout.
    """

    def __init__(
        self, folder: Path, *, local_timeout: float = LOCAL_TIMEOUT_S, remote_timeout: float = REMOTE_TIMEOUT_S
    ) -> None:
        # O_NOFOLLOW, because the target of a symbolic link would be overwritten.
        self._file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            self._acquire(folder, local_timeout, remote_timeout)
        except BaseException:
            self.release()
            raise

    def _acquire(self, folder: Path, local_timeout: float, remote_timeout: float) -> None:
        start, host = time.monotonic(), socket.gethostname()
        while _try_lock(self._file, fcntl.LOCK_EX) is False:  # None: continue without a lock
            holder = os.pread(self._file, 200, 0).decode(errors="replace")
            timeout = local_timeout if holder.endswith(f" on {host}") else remote_timeout
            if time.monotonic() > start + timeout:
                raise UserError(f"{folder} is in use by {holder}; only one process at a time can use it")
            time.sleep(POLL_INTERVAL_S)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()} on {host}".encode(), 0)

    def release(self) -> None:
        """Release the lock, even if a child process still has the file open."""
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)


def is_held(folder: Path) -> bool | None:
    """Return whether a process, on any machine that shares the folder, holds its lock; None if that is unknown."""
    try:
        file = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe must not block
    except OSError:
        return None
    try:
        locked = _try_lock(file, fcntl.LOCK_SH)  # for an instant; `Lock` tries again
    finally:
        os.close(file)
    return None if locked is None else not locked


def _try_lock(file: int, kind: int) -> bool | None:
    """Return whether the file could be locked; None if the file system does not support locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
