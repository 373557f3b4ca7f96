"""Metrics to ``progress.csv``, one row an iteration."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path


class CSVTracker:
    """Appends rows to a CSV file; its columns are the metrics of the first row."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="")
        self._writer: csv.DictWriter[str] | None = None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one row at once, so that a killed run keeps it; a NaN is an empty cell."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(metrics))
            self._writer.writeheader()
        cells = {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in metrics.items()}
        self._writer.writerow(cells)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
