"""Metrics to ``progress.csv``, one row an iteration."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path

from helpers.checkpoint import write_bytes

logger = logging.getLogger(__name__)


class CSVTracker:
    """Appends rows to a CSV file; its columns are the metrics of the first row.

    Rows that a full disk does not take are kept, and written as soon as it does.

    Args:
        path: the file.
        iteration: the one that the run goes on from; later rows, which it will write again, are removed.
    """

    def __init__(self, path: Path, iteration: int = 0) -> None:
        self._columns = keep_rows(path, iteration)
        self._file = path.open("ab", buffering=0)
        self._waiting = b""  # not yet in the file
        self._complains = True

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one row at once, so that a killed run keeps it; a NaN is an empty cell."""
        text = io.StringIO(newline="")
        if not self._columns:
            self._columns = list(metrics)
            csv.DictWriter(text, self._columns).writeheader()
        cells = {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in metrics.items()}
        csv.DictWriter(text, self._columns, extrasaction="ignore").writerow(cells)
        self._waiting += text.getvalue().encode()
        self._write()

    def _write(self) -> None:
        try:
            while self._waiting:  # a full disk takes a part
                self._waiting = self._waiting[self._file.write(self._waiting) :]
        except OSError as error:
            if self._complains:
                logger.warning("%s takes no more rows (%s); they are kept for later", self._file.name, error.strerror)
            self._complains = False
        else:
            self._complains = True

    def flush(self) -> None:
        """Bring what was logged onto the disk, before a checkpoint that counts on it.

        Raises:
            OSError: where the disk does not take it.
        """
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._write()
        self._file.close()


def keep_rows(path: Path, iteration: int) -> list[str]:
    """Remove the rows after an iteration from a progress file, also half a row at its end; return its columns."""
    if not iteration or not path.exists():
        path.write_bytes(b"")
        return []
    header, *rows = path.read_bytes().splitlines(keepends=True) or [b""]
    columns = header.decode(errors="replace").strip().split(",")
    if "iteration" not in columns:
        path.write_bytes(b"")
        return []
    place = columns.index("iteration")

    def stays(row: bytes) -> bool:
        cell = row.split(b",")[place] if row.count(b",") == len(columns) - 1 and row.endswith(b"\n") else b""
        return cell.isdigit() and int(cell) <= iteration

    if not all(map(stays, rows)):
        write_bytes(path, b"".join([header, *filter(stays, rows)]))
    return columns
