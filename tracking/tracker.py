"""Where a run's metrics go: console, CSV, TensorBoard, Weights & Biases. One file each, one small protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from milozero.helpers.config.params import param

BACKGROUND = "tracker"  # name of a tracker's own thread


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Settings of what takes part besides console and CSV."""

    tensorboard: bool = param(False, "write the metrics for TensorBoard as well", mutable_on_resume=True)
    wandb_project: str = param("", "Weights & Biases project; empty for none", mutable_on_resume=True)
    wandb_entity: str = param("", "Weights & Biases user or team", mutable_on_resume=True)


class Tracker:
    """Takes metrics as they come; what it does not define, it does not do."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Take the metrics of environment step `step`; a NaN means not measured this time."""

    def flush(self) -> None:
        """Bring what was logged to where a kill or a power cut does not reach it.

        Raises:
            OSError: where that cannot be done.
        """

    def close(self) -> None:
        """Write out what is left, or ask for that."""

    def wait(self, seconds: float, over: Callable[[], bool]) -> None:
        """Wait for what `close` asked for, at most so long and until `over`."""


class Trackers(Tracker):
    """Several trackers as one; none at all is a tracker that does nothing."""

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = trackers

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Pass the metrics on to each tracker."""
        for tracker in self._trackers:
            tracker.log(metrics, step)

    def flush(self) -> None:
        """Flush each tracker."""
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        """Close each tracker."""
        for tracker in self._trackers:
            tracker.close()

    def wait(self, seconds: float, over: Callable[[], bool]) -> None:
        """Wait for each tracker."""
        for tracker in self._trackers:
            tracker.wait(seconds, over)
