"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def never() -> bool:
    """Return False."""
    return False


def write_atomically(path: Path, write: Callable[[Path], Any], unless: Callable[[], bool] = never) -> None:
    """Call ``write(temporary)`` and move the result to `path`: readers see the old file or the new one, whole.

    `unless` is asked at the last moment, since a process may be stopped while it writes: where it is true, the file
    stays as it is.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if unless():
            return
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_bytes(path: Path, data: bytes, unless: Callable[[], bool] = never) -> None:
    """Write a file atomically, as `write_atomically` does.

    Raises:
        OSError: where it cannot be written; an older file of that name is then still there.
    """
    write_atomically(path, lambda temporary: temporary.write_bytes(data), unless)
