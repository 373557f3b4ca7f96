"""Metrics to ``progress.csv``, one row an iteration."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from milozero.helpers.files import write_bytes
from milozero.tracking.appended import AppendedFile
from milozero.tracking.tracker import Tracker


class CSVTracker(Tracker):
    """Appends rows to a CSV file; its columns are the metrics of the first row.

    Rows that a full disk does not take are kept, and written as soon as it does.

    Args:
        path: the file.
        iteration: the one that the run goes on from; later rows, which it will write again, are removed.
    """

    def __init__(self, path: Path, iteration: int = 0) -> None:
        self._columns = keep_rows(path, iteration)
        self._file = AppendedFile(path)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one row at once, so that a killed run keeps it; a NaN is an empty cell."""
        text = io.StringIO(newline="")
        if not self._columns:
            self._columns = list(metrics)
            csv.DictWriter(text, self._columns).writeheader()
        cells = {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in metrics.items()}
        csv.DictWriter(text, self._columns, extrasaction="ignore").writerow(cells)
        self._file.append(text.getvalue().encode())

    def flush(self) -> None:
        """Bring what was logged onto the disk, before a checkpoint that counts on it.

        Raises:
            OSError: where the disk does not take it.
        """
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
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
