"""The estimated time until a run ends."""

from __future__ import annotations

import math
from collections import deque

PACE_ITERATIONS = 20


class Pace:
    """Estimates the time left from the latest iterations of this launch.

    The first iteration is left out: it also compiles, and off-policy algorithms do not learn yet.
    """

    def __init__(self) -> None:
        self._ends: deque[tuple[float, float]] = deque(maxlen=PACE_ITERATIONS + 1)  # (seconds, progress)

    def time_left(self, seconds: float, progress: float) -> float:
        """Return the seconds left after an iteration that ended at `seconds`; NaN after the first one."""
        self._ends.append((seconds, progress))
        first_seconds, first_progress = self._ends[0]
        if progress >= 1.0:
            return 0.0
        if progress <= first_progress:
            return math.nan
        return (seconds - first_seconds) * (1.0 - progress) / (progress - first_progress)
