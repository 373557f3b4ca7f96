"""A file that grows while a run lasts, on a disk that may be full for a while."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


class AppendedFile:
    """Takes bytes at its end; what a full disk does not take is kept, and written as soon as it does.

    Args:
        path: the file, made where there is none.

    Raises:
        OSError: where it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._waiting = b""  # not yet in the file
        self._complains = True

    def append(self, data: bytes) -> None:
        """Write at once, so that a killed run keeps it; a disk that does not take it is reported once."""
        self._waiting += data
        try:
            self._write()
        except OSError as error:
            if self._complains:
                logger.warning("%s takes no more (%s); it is kept for later", self._file.name, error.strerror)
            self._complains = False
        else:
            self._complains = True

    def _write(self) -> None:
        while self._waiting:  # a full disk takes a part
            self._waiting = self._waiting[self._file.write(self._waiting) :]

    def sync(self) -> None:
        """Bring everything onto the disk, where a power cut does not reach it.

        Raises:
            OSError: where the disk does not take it.
        """
        self._write()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what the disk takes of what is left, and close the file."""
        self.append(b"")
        with contextlib.suppress(OSError):
            self._file.close()
