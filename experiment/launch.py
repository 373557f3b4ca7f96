"""The context in which main.py runs a task."""

from __future__ import annotations

import contextlib
import dataclasses

from milozero.helpers.comm import Comm


@dataclasses.dataclass(frozen=True)
class Launch:
    """The context in which main.py runs a task."""

    comm: Comm
    cleanup: contextlib.ExitStack  # runs at the very end of the task
    start_time: float  # ``time.monotonic()`` when the program started; the time limit counts from here
