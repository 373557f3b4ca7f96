"""The progress of a run, and its state in status.json, for spawner.py and users."""

from __future__ import annotations

import contextlib
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

from milozero.experiment.checkpoint import check_structure, has_checkpoint
from milozero.helpers.config.values import is_plain
from milozero.helpers.files import read_json, write_bytes
from milozero.helpers.locks import is_held

if TYPE_CHECKING:
    from milozero.experiment.settings import TrainConfig

logger = logging.getLogger(__name__)


def read_status(folder: Path) -> dict[str, Any]:
    """Return the plain values of the ``status.json`` in a run's log folder; empty if it cannot be read.

    A killed run leaves the state ``running``, which this corrects to ``killed``, in the file as well, together with
    ``resumable``: it may have been killed after it wrote a checkpoint and before it wrote its status.
    """
    path, checkpoints = folder / "status.json", folder.parent.parent / "checkpoints" / folder.name
    try:
        content = dict(read_json(path))
    except (OSError, ValueError, TypeError):
        return {}
    # On this machine only: locks of another one may be invisible.
    local = content.get("host") == socket.gethostname()
    if content.get("state") == "running" and local and is_held(checkpoints) is False:
        content |= {"state": "killed", "resumable": has_checkpoint(checkpoints)}
        with contextlib.suppress(OSError):  # the reader may not own the run
            write_bytes(path, _to_json(content), skip_if=lambda: is_held(checkpoints) is not False)
    return {name: value for name, value in content.items() if is_plain(value)}


def _to_json(status: dict[str, Any]) -> bytes:
    return f"{json.dumps(status, indent=2)}\n".encode()


@dataclass
class Counters:
    """The progress of a run; part of its checkpoints."""

    iteration: int = 0
    timesteps: int = 0  # environment steps, summed over all workers
    episodes: int = 0
    best_eval_return: float = -math.inf
    last_eval_return: float = math.nan
    seconds: float = 0.0  # training time

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the counters of a checkpoint.

        Raises:
            ValueError: if `state` does not hold valid counters.
        """
        check_structure(state, vars(self), "counters")
        counts = [state[name] for name in ("iteration", "timesteps", "episodes", "seconds")]
        if not 0 <= min(counts) <= max(counts) < 2**63:
            raise ValueError("counters are out of range")
        vars(self).update(state)

    def progress(self, config: TrainConfig) -> float:
        """Return the completed fraction of the run, from 0 to 1; equal on all workers."""
        return min(max(self.timesteps / config.num_timesteps, self.iteration / (config.num_iters or math.inf)), 1.0)


class NoStatus:
    """Replaces `Status` in evaluations, which have no status.json."""

    def write(self, state: str, reason: str, *, unless_ended: bool = False) -> None:
        """Do nothing."""


@dataclass
class Status:
    """Writes the state of a run to status.json.

    The states are ``running``, ``finished`` (nothing left to do), ``stopped`` (can be resumed) and ``failed``. A run
    that was killed leaves ``running``, which `read_status` corrects to ``killed``.
    """

    folder: Path  # of the log
    counters: Counters
    saved_iteration: int | None = None  # iteration of the newest checkpoint, from which --resume continues
    learned: bool = False  # whether the agent converged before its budget was exhausted
    _ended: bool = False  # only the first final state counts
    _lock: threading.Lock = field(default_factory=threading.Lock)  # the watchdog's thread writes, too

    def write(self, state: str, reason: str, *, unless_ended: bool = False) -> None:
        """Write the state unless a final one was written before; a failure is only logged.

        Args:
            state: ``running``, ``finished``, ``stopped`` or ``failed``.
            reason: why the run ended.
            unless_ended: also keep a final state that another worker has written.
        """
        with self._lock:
            if not self._ended:
                self._ended = state != "running"
                self._write(state, reason, self._has_ended if unless_ended else None)

    def _has_ended(self) -> bool:
        return bool(read_status(self.folder).get("state", "running") != "running")

    def _write(self, state: str, reason: str, skip_if: Callable[[], bool] | None) -> None:
        content: dict[str, Any] = {
            "state": state,
            "reason": reason,
            "iteration": self.counters.iteration,
            "timesteps": self.counters.timesteps,
            "learned": self.learned,
            "resumable": self.saved_iteration is not None,  # also a finished run, with a larger --num_timesteps
            "saved_iteration": self.saved_iteration,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        }
        try:
            write_bytes(self.folder / "status.json", _to_json(content), skip_if)
        except OSError as error:
            logger.warning("cannot write status.json: %s", error.strerror)
