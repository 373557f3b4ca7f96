"""Metrics to TensorBoard's event files."""

from __future__ import annotations

import importlib.util
import io
import logging
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from milozero.helpers.errors import UserError
from milozero.tracking.appended import AppendedFile
from milozero.tracking.plots import read_progress
from milozero.tracking.tracker import Tracker

logger = logging.getLogger(__name__)


def check_installed() -> None:
    """Look for TensorBoard's package, which is imported only where it is used.

    Raises:
        UserError: where it is missing.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--tensorboard needs the package tensorboard: pip install -r requirements.txt")


class TensorBoardTracker(Tracker):
    """One event file: the rows of ``progress.csv`` as TensorBoard reads them, an event a row.

    A run that goes on begins a new file with the rows that ``progress.csv`` has kept, in place of the older files.
    So every row is there once, whatever a killed run had logged after its last checkpoint, and the whole history is
    there even where TensorBoard takes part for the first time.

    The library's own writer is passed over: its thread, once a disk was full, takes nothing for the rest of the run.

    Args:
        folder: where the file goes.
        progress: the run's ``progress.csv``, with the rows up to the iteration that the run goes on from.
        groups: metric → what stands before its name in TensorBoard, ``group/name``.
    """

    def __init__(self, folder: Path, progress: Path, groups: Mapping[str, str]) -> None:
        self._groups = groups
        self._file: AppendedFile | None = None
        try:
            begin = record(time.time(), file_version="brain.Event:2")
            history = [self._event(row, int(row["timesteps"]), when) for when, row in timed_rows(progress)]
            folder.mkdir(exist_ok=True)
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
            # A name of its own: a TensorBoard that looks on would read on in a file where it had stopped.
            name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
            self._file = AppendedFile(folder / name)
            self._file.append(b"".join([begin, *history]))
        except Exception as error:  # a tracker must never cost the run
            logger.warning("TensorBoard is off: %s: %s", type(error).__name__, error)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one event at once, so that a killed run keeps it; a NaN is left out."""
        if self._file is not None:
            self._file.append(self._event(metrics, step, time.time()))

    def _event(self, metrics: Mapping[str, float], step: int, wall_time: float) -> bytes:
        values = [
            {"tag": f"{self._groups.get(name, 'other')}/{name}", "simple_value": value}
            for name, value in metrics.items()
            if not math.isnan(value)
        ]
        return record(wall_time, step=step, summary={"value": values})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def record(wall_time: float, **fields: Any) -> bytes:
    """Return an event as it stands in the file.

    Args:
        wall_time: when it was, seconds since 1970.
        fields: the others of TensorBoard's ``Event``.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    framed = io.BytesIO()
    RecordWriter(framed).write(Event(wall_time=wall_time, **fields).SerializeToString())
    return framed.getvalue()


def timed_rows(progress: Path) -> Iterator[tuple[float, dict[str, float]]]:
    """Yield (seconds since 1970, metrics) of each row: as if the run had trained up to now without a pause."""
    columns = read_progress(progress)
    if not columns:
        return
    began = time.time() - columns["seconds"][-1]
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, map(float, values), strict=True))
        yield began + row["seconds"], row
