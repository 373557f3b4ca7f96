"""A file that a run appends to, even if the disk is temporarily full."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


class AppendedFile:
    """Appends bytes to a file; buffers what a full disk rejects and writes it later.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._pending = b""  # not yet in the file
        self._warned = False

    def append(self, data: bytes) -> None:
        """Write immediately, so that a killed run keeps its data; if the disk rejects it, warn once."""
        self._pending += data
        try:
            self._write()
        except OSError as error:
            if not self._warned:
                logger.warning("cannot write to %s (%s); buffering until it works", self._file.name, error.strerror)
            self._warned = True
        else:
            self._warned = False

    def _write(self) -> None:
        while self._pending:  # a full disk accepts only a part
            self._pending = self._pending[self._file.write(self._pending) :]

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
