"""Write and read ``progress.csv``, which has one row of metrics per iteration."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from milozero.helpers.config.values import MAX_FLOAT
from milozero.helpers.files import open_regular, read_regular, write_bytes
from milozero.helpers.logging import logger, pluralize
from milozero.tracking.appended import AppendedFile
from milozero.tracking.tracker import Tracker

TAIL_BYTES = 64 * 1024  # enough for the last rows of a file


class CSVTracker(Tracker):
    """Appends rows to a CSV file whose columns are the metrics of the first row.

    Buffers rows that a full disk rejects and writes them later. Resuming from `iteration` removes later rows, because
    the run writes them again.
    """

    def __init__(self, path: Path, iteration: int = 0) -> None:
        self._columns, num_rows = truncate_rows(path, iteration)
        if num_rows < iteration:
            lost = pluralize(iteration - num_rows, "row")
            logger.warning(f"{path} lacks {lost} of the {iteration:,} iterations so far; they cannot be restored")
        self._path, self._num_logged = path, num_rows
        self._file = AppendedFile(path)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one row immediately, so that a killed run keeps it; a NaN becomes an empty cell."""
        text = io.StringIO(newline="")
        self._columns = self._columns or list(metrics)
        if self._file.is_empty():
            if self._num_logged:
                logger.warning(f"{self._path} was emptied; it now begins with iteration {metrics.get('iteration')}")
            csv.DictWriter(text, self._columns).writeheader()
        cells = {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in metrics.items()}
        csv.DictWriter(text, self._columns, extrasaction="ignore").writerow(cells)
        self._file.append(text.getvalue().encode())
        self._num_logged += 1

    def flush(self) -> None:
        """Flush all rows to the physical disk; called before a checkpoint that relies on them.

        Raises:
            OSError: if the disk rejects them.
        """
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def truncate_rows(path: Path, iteration: int) -> tuple[list[str], int]:
    """Remove damaged rows and rows after `iteration` from a ``progress.csv``; return its columns and row count."""
    content = read_regular(path) if path.exists() else b""
    header, *rows = (content if iteration else b"").splitlines(keepends=True) or [b""]
    columns = header.decode(errors="replace").strip().split(",")
    if "iteration" not in columns:
        path.write_bytes(b"")
        return [], 0
    index = columns.index("iteration")

    def keep(row: bytes) -> bool:
        cell = row.split(b",")[index] if row.count(b",") == len(columns) - 1 and row.endswith(b"\n") else b""
        return cell.isdigit() and int(cell) <= iteration

    kept = list(filter(keep, rows))
    if len(kept) < len(rows):
        write_bytes(path, b"".join([header, *kept]))
    return columns, len(kept)


def parse_progress(text: str, names: Collection[str] | None = None) -> tuple[dict[str, np.ndarray], int]:
    """Parse a ``progress.csv`` that may be damaged or still growing.

    Args:
        text: content of the file; a last line without a newline is still being written, and is ignored.
        names: metrics to parse, all by default. Parsing a few is faster.

    Returns:
        metric → values (rows,), NaN if a cell is not a number within single precision; and the number of damaged
        lines, which it skips.
    """
    lines = text.split("\n")[:-1]
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    rows = [line for line in lines[1:] if line and line.count(",") == len(header) - 1]
    indices = {name: index for index, name in enumerate(header) if names is None or name in names}
    table = _parse_cells(rows, list(indices.values()))
    table[np.abs(table) > MAX_FLOAT] = math.nan  # sums of larger numbers would be infinite
    return dict(zip(indices, table.T, strict=True)), max(len(lines) - 1, 0) - len(rows)


def read_progress(path: Path) -> dict[str, np.ndarray]:
    """Return metric → values (rows,) of a ``progress.csv``, NaN if not measured.

    Raises:
        OSError: if the file cannot be read.
    """
    return parse_progress(read_regular(path).decode(errors="replace"))[0]


def read_last_values(path: Path) -> dict[str, float]:
    """Return metric → last measured value of a ``progress.csv``; empty if it cannot be read.

    Reads only the end of the file.
    """
    try:
        with open_regular(path) as file:
            header = file.readline()
            file.seek(max(len(header), os.fstat(file.fileno()).st_size - TAIL_BYTES))
            text = (header + file.read()).decode(errors="replace").replace("\r", "")
    except OSError:
        return {}
    measured = {name: values[np.isfinite(values)] for name, values in parse_progress(text)[0].items()}
    return {name: float(values[-1]) for name, values in measured.items() if len(values)}


def _parse_cells(rows: Sequence[str], indices: Sequence[int]) -> np.ndarray:
    """Return the numbers (rows, indices) of some columns."""
    if not rows or not indices:
        return np.empty((len(rows), len(indices)))
    filled = [row.replace(",,", ",nan,").replace(",,", ",nan,") for row in rows]
    try:
        return np.loadtxt(filled, delimiter=",", usecols=indices, comments=None, ndmin=2)
    except ValueError:  # a row ends with an empty cell, or a cell is not a number
        cells = [row.split(",") for row in rows]
        return np.array([[_parse_number(row[index]) for index in indices] for row in cells])


def _parse_number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
