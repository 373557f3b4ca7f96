"""Atomic file writes, reads that do not block, and reading JSON."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from milozero.helpers.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], Any], skip_if: Callable[[], bool] | None = None) -> None:
    """Call ``write(temporary)`` and move the result to `path`: readers see either the old or the new file.

    The folder is created if it is missing, e.g. because it was removed during a run.

    Args:
        path: the file.
        write: writes the content to a temporary path.
        skip_if: called right before the move; if it returns True, the old file stays. While this process was
            suspended, another one may have written the file.

    Raises:
        OSError: if the file cannot be written; an older file of that name is kept.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)  # left by a killed process, or a link whose target must not change
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if skip_if is not None and skip_if():
            return
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def is_private(folder: Path) -> bool:
    """Return whether a path is a folder that belongs to this user and that no other user can write to."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def open_regular(path: Path | str) -> BinaryIO:
    """Open a file to read its bytes. Unlike `open`, this never waits for the writer of a named pipe.

    Raises:
        OSError: if the file cannot be opened, or is a folder, pipe, device or socket.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_regular(path: Path | str) -> bytes:
    """Return the content of a file; raises the errors of `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def check_working_directory() -> None:
    """Raise a UserError if the working directory has been removed: torch would end the process."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the working directory no longer exists; change to one that does") from None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(read_regular(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_bytes(path: Path, data: bytes, skip_if: Callable[[], bool] | None = None) -> None:
    """Write `data` to a file, like `write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data), skip_if)
