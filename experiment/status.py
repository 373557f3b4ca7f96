"""How far a run is, and ``status.json`` beside a run's log: what became of it, for the spawner and for people."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milozero.experiment.checkpoint import check_fit
from milozero.helpers.files import never, write_bytes

if TYPE_CHECKING:
    from milozero.experiment.settings import TrainConfig

logger = logging.getLogger(__name__)


def read_status(folder: Path) -> dict[str, Any]:
    """Return the ``status.json`` in a run's log folder; empty if it cannot be read."""
    try:
        return dict(json.loads((folder / "status.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


@dataclass
class Counters:
    """How far a run is; part of its checkpoints."""

    iteration: int = 0
    timesteps: int = 0  # environment steps over all workers
    episodes: int = 0
    best_eval_return: float = -math.inf
    last_eval_return: float = math.nan
    seconds: float = 0.0  # of training

    def take_over(self, saved: dict[str, Any]) -> None:
        """Take over a checkpoint's counters.

        Raises:
            ValueError: where these are not counters.
        """
        check_fit(saved, vars(self), "counters")
        if min(saved["iteration"], saved["timesteps"], saved["episodes"], saved["seconds"]) < 0:
            raise ValueError("counters are negative")
        vars(self).update(saved)

    def progress(self, config: TrainConfig) -> float:
        """Return the share of the run that is done, from 0 to 1; the same on every worker."""
        return min(max(self.timesteps / config.num_timesteps, self.iteration / (config.num_iters or math.inf)), 1.0)


@dataclass
class Status:
    """Writes a run's state as it changes.

    The states: ``running``; ``finished``, nothing is left to do; ``stopped``, to be resumed; ``failed``. A run that
    was killed leaves ``running`` behind, of a process that is no more.
    """

    folder: Path  # of the log
    counters: Counters
    saved_iteration: int | None = None  # of the newest checkpoint, from which --resume goes on
    learned: bool = False  # whether the agent has learned all it could, however long the run was to be
    _over: bool = False  # the first word about the end is the one that counts
    _lock: threading.Lock = field(default_factory=threading.Lock)  # the warden's thread writes as well

    def mark_running(self) -> None:
        """Write that the run is running still, unless another worker has written how it ended."""
        self.write("running", "", unless=self._has_ended)

    def _has_ended(self) -> bool:
        return bool(read_status(self.folder).get("state", "running") != "running")

    def write(self, state: str, reason: str, unless: Callable[[], bool] = never) -> None:
        """Write the file, `unless` that is true at last; a disk that does not take it costs the run nothing."""
        with self._lock:
            if not self._over:
                self._over = state != "running"
                self._write(state, reason, unless)

    def _write(self, state: str, reason: str, unless: Callable[[], bool]) -> None:
        content: dict[str, Any] = {
            "state": state,
            "reason": reason,
            "iteration": self.counters.iteration,
            "timesteps": self.counters.timesteps,
            "learned": self.learned,
            "resumable": state != "finished" and self.saved_iteration is not None,
            "saved_iteration": self.saved_iteration,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        }
        text = json.dumps(content, indent=2) + "\n"
        try:
            write_bytes(self.folder / "status.json", text.encode(), unless)
        except OSError as error:
            logger.warning("status.json could not be written: %s", error.strerror)
