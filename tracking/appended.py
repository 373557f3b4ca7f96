"""A file that a run appends to, even if the disk is temporarily full or the file is removed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


class AppendedFile:
    """Appends bytes to a file; buffers what a full disk rejects and writes it later.

    If the file or its folder is removed, the next write recreates it, with its content.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():  # opening a named pipe would block
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        self._path = path
        self._file = path.open("a+b", buffering=0)
        self._pending = b""  # not yet in the file
        self._warned = False

    def append(self, data: bytes) -> None:
        """Write immediately, so that a killed run keeps its data; if the disk rejects it, warn once."""
        self._pending += data
        try:
            self._write()
        except OSError as error:
            warned, self._warned = self._warned, True  # set first: the warning itself may go to such a file
            if not warned:
                logger.warning("cannot write to %s (%s); buffering until it works", self._path, error.strerror)
        else:
            self._warned = False

    def is_empty(self) -> bool:
        """Return whether the file is empty, because nothing was written or because someone emptied it."""
        if self._pending:
            return False
        try:
            return self._path.stat().st_size == 0
        except FileNotFoundError:  # its content will be written again
            return os.fstat(self._file.fileno()).st_size == 0
        except OSError:
            return False

    def _write(self) -> None:
        self._restore()
        while self._pending:  # a full disk accepts only a part
            self._pending = self._pending[self._file.write(self._pending) :]

    def _restore(self) -> None:
        """Recreate the file if it was removed. If it was replaced, as some editors do, append to the new one."""
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                return
            content = b""
        except FileNotFoundError:
            fd = self._file.fileno()
            content = os.pread(fd, os.fstat(fd).st_size, 0)  # still there while it is open
            self._path.parent.mkdir(parents=True, exist_ok=True)
        removed, self._file = self._file, self._path.open("a+b", buffering=0)
        removed.close()
        self._pending = content + self._pending

    def sync(self) -> None:
        """Flush to the physical disk, so that a power cut loses nothing.

        Raises:
            OSError: if the disk rejects the data.
        """
        self._write()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write the buffered data if the disk accepts it, and close the file."""
        self.append(b"")
        with contextlib.suppress(OSError):
            self._file.close()
