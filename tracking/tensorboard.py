"""Log metrics to TensorBoard event files."""

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
from milozero.tracking.csv import read_progress
from milozero.tracking.tracker import Tracker

logger = logging.getLogger(__name__)


def check_installed() -> None:
    """Check that the tensorboard package is installed, without importing it.

    Raises:
        UserError: if it is missing.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--tensorboard requires the tensorboard package: pip install -r requirements.txt")


class TensorBoardTracker(Tracker):
    """Logs the rows of ``progress.csv`` to one event file, one event per row.

    A resumed run replaces the event files with a new one that starts with the rows in ``progress.csv``. So each row
    appears once, even if a killed run logged more, and the history is complete even if TensorBoard was off before.

    The library's SummaryWriter is not used: after one write error, its thread drops all later events.

    Args:
        folder: folder of the event file.
        progress: the run's ``progress.csv``, truncated to the iteration that the run resumes from.
        groups: metric → prefix of its tag, ``group/name``.
        hparams: hyper-parameter → value, for the tab HParams, which compares runs.
        texts: title → Markdown, for the tab Text.
    """

    def __init__(
        self,
        folder: Path,
        progress: Path,
        groups: Mapping[str, str],
        hparams: Mapping[str, bool | float | str] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        self._groups = groups
        self._file: AppendedFile | None = None
        try:
            header = encode_event(time.time(), file_version="brain.Event:2")
            history = [self._event(row, int(row["timesteps"]), when) for when, row in read_timed_rows(progress)]
            folder.mkdir(exist_ok=True)
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
            # A new name: a running TensorBoard would continue at its old position in a file of the same name.
            name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
            self._file = AppendedFile(folder / name)
            settings = encode_settings(folder.parent.name, hparams or {}, texts or {})
            self._file.append(b"".join([header, *settings, *history]))
        except Exception as error:  # a tracker must never stop the run
            logger.warning("TensorBoard logging is disabled: %s: %s", type(error).__name__, error)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one event immediately, so that a killed run keeps it; NaNs are omitted."""
        if self._file is not None:
            self._file.append(self._event(metrics, step, time.time()))

    def _event(self, metrics: Mapping[str, float], step: int, wall_time: float) -> bytes:
        values = [
            {"tag": f"{self._groups.get(name, 'other')}/{name}", "simple_value": value}
            for name, value in metrics.items()
            if not math.isnan(value)
        ]
        return encode_event(wall_time, step=step, summary={"value": values})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def encode_event(wall_time: float, **fields: Any) -> bytes:
    """Return a TensorBoard ``Event``, at seconds since the epoch, as a record of the event file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    RecordWriter(buffer).write(Event(wall_time=wall_time, **fields).SerializeToString())
    return buffer.getvalue()


def encode_settings(
    name: str, hparams: Mapping[str, bool | float | str], texts: Mapping[str, str]
) -> Iterator[bytes]:
    """Yield the records of the tabs HParams and Text, of the run `name`; none without values."""
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    if hparams:
        yield encode_event(time.time(), summary=hparams_pb(dict(hparams), trial_id=name))
    for title, text in texts.items():
        # Not tensorboard.plugins.text.summary, which needs TensorFlow.
        metadata, tensor = create_summary_metadata(title, ""), make_tensor_proto(text)
        yield encode_event(time.time(), summary={"value": [{"tag": title, "metadata": metadata, "tensor": tensor}]})


def format_table(values: Mapping[str, Any]) -> str:
    """Return a table of names and values, in Markdown."""
    cells = {name: str(value).replace("|", "\\|") for name, value in values.items()}
    rows = [f"| {name} | {f'`{cell}`' if cell else ''} |" for name, cell in cells.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def read_timed_rows(progress: Path) -> Iterator[tuple[float, dict[str, float]]]:
    """Yield (seconds since the epoch, metrics) of each row, as if the run had trained until now without a pause."""
    columns = read_progress(progress)
    rows = [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    start = time.time() - rows[-1]["seconds"] if rows else 0.0
    for row in rows:
        yield start + row["seconds"], row
