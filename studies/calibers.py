"""How long a job may run in one piece on a cluster, and in which partition."""

from __future__ import annotations

from dataclasses import dataclass

from milozero.helpers.config.values import to_seconds


@dataclass(frozen=True)
class Caliber:
    """One row of the table."""

    time: str  # in SLURM's notation
    cpu: str  # partition of jobs without a GPU
    gpu: str  # partition of jobs with one

    @property
    def notice(self) -> int:
        """Seconds before its end at which a job is told to save and stop: a twentieth, one to ten minutes."""
        seconds = to_seconds(self.time)
        return int(min(600, max(60, seconds / 20), seconds / 2))


CALIBERS = {
    "debug": Caliber("00:05:00", "shared-cpu", "shared-gpu"),
    "veryveryshort": Caliber("00:30:00", "shared-cpu", "shared-gpu"),
    "veryshort": Caliber("02:00:00", "shared-cpu", "shared-gpu"),
    "short": Caliber("06:00:00", "shared-cpu", "shared-gpu"),
    "long": Caliber("12:00:00", "shared-cpu", "shared-gpu"),
    "daylong": Caliber("1-00:00:00", "public-cpu", "public-gpu"),
    "verylong": Caliber("2-00:00:00", "public-cpu", "public-gpu"),
    "veryverylong": Caliber("3-00:00:00", "public-cpu", "public-gpu"),
    "veryveryverylong": Caliber("4-00:00:00", "public-cpu", "public-gpu"),
}
