"""The tracker interface: trackers log a run's metrics to the console, CSV, TensorBoard and Weights & Biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from milozero.helpers.config.params import param

TRACKER_THREAD_NAME = "tracker"  # of a tracker's background thread


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Settings of the optional trackers; console and CSV are always on."""

    tensorboard: bool = param(False, "also log metrics to TensorBoard", mutable_on_resume=True)
    wandb_project: str = param(
        "", "Weights & Biases project to log to; empty disables Weights & Biases", mutable_on_resume=True
    )
    wandb_entity: str = param("", "Weights & Biases user or team", mutable_on_resume=True)


class Tracker:
    """Logs metrics. Subclasses implement `log`; the other methods do nothing by default."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of environment step `step`; a NaN means not measured."""

    def log_video(self, name: str, path: Path, caption: str = "") -> None:
        """Log an mp4 file, at the latest step."""

    def flush(self) -> None:
        """Save all logged metrics to disk, so that neither a kill nor a power cut loses them.

        Raises:
            OSError: if they cannot be saved.
        """

    def close(self) -> None:
        """Write pending metrics and close; may return before a background thread is done."""

    def wait(self, timeout_s: float, interrupted: Callable[[], bool]) -> None:
        """Wait until a closed tracker is done, at most `timeout_s`, or until `interrupted()` is true."""


class Trackers(Tracker):
    """Several trackers as one; an empty list does nothing."""

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = trackers

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics to each tracker."""
        for tracker in self._trackers:
            tracker.log(metrics, step)

    def log_video(self, name: str, path: Path, caption: str = "") -> None:
        """Log the video to each tracker."""
        for tracker in self._trackers:
            tracker.log_video(name, path, caption)

    def flush(self) -> None:
        """Flush each tracker."""
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        """Close each tracker."""
        for tracker in self._trackers:
            tracker.close()

    def wait(self, timeout_s: float, interrupted: Callable[[], bool]) -> None:
        """Wait for each tracker."""
        for tracker in self._trackers:
            tracker.wait(timeout_s, interrupted)
