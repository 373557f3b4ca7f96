"""What a task of the command line runs with."""

from __future__ import annotations

import contextlib
import dataclasses

from milozero.helpers.comm import Comm


@dataclasses.dataclass(frozen=True)
class Launch:
    """What a task of the command line runs with."""

    comm: Comm
    cleanup: contextlib.ExitStack  # closed at the end of the task, after everything else
    began: float  # ``time.monotonic()`` at the start of the program, from which the time limit counts
