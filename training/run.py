"""The state of a training run: evaluated and saved as it goes, restored from a checkpoint."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch

from milozero.agents.base import Agent
from milozero.agents.rollout import ReplayLog
from milozero.environments.vector import VectorEnv
from milozero.evaluation.episodes import evaluate
from milozero.experiment import checkpoint
from milozero.experiment.initializer import ExperimentInitializer
from milozero.experiment.status import Counters, Status
from milozero.experiment.watchdog import Watchdog
from milozero.helpers.comm import Comm
from milozero.helpers.files import write_bytes
from milozero.helpers.logging import logger
from milozero.tracking.tracker import Tracker


@dataclass
class Training:
    """The state of a training run, complete from the start."""

    experiment: ExperimentInitializer
    agent: Agent
    env: VectorEnv  # of this worker
    eval_env: gymnasium.Env[Any, Any]
    comm: Comm
    counters: Counters
    status: Status
    tracker: Tracker
    watchdog: Watchdog
    replay_log: ReplayLog  # of this worker's environments
    expert_return: float | None = None  # mean return of the expert, to compare with
    compiled: bool = False
    unsaved: str = ""  # why the last checkpoint could not be written; empty if it was
    # kind → name and bytes of checkpoints that are still to be written, e.g. because the disk was full
    _pending: dict[str, tuple[int | str, bytes]] = field(default_factory=dict)

    def evaluate(self) -> float:
        """Play evaluation episodes with the present policy, keep it if it is the best; return the mean return."""
        config = self.experiment.settings.train
        episodes = evaluate(self.agent, self.eval_env, self.experiment.seed, config.eval_episodes, self.comm)
        mean = statistics.fmean(return_ for return_, _ in episodes)
        self.counters.last_eval_return = mean
        if mean > self.counters.best_eval_return:
            self.counters.best_eval_return = mean
            # A resumed run may come to other evaluations than before: no worse policy replaces the best that is kept.
            if self.comm.rank == 0 and not mean < self.experiment.best_eval_return:
                self._pending["best"] = ("best", checkpoint.to_bytes(self._content([])))
            self._write()
        return mean

    def save(self) -> None:
        """Write a checkpoint of this iteration, from which a run can go on (collective)."""
        actions = [torch.from_numpy(actions) for actions in self.replay_log.actions]
        mine = {
            "agent": self.agent.rank_state_dict(),
            "start": self.replay_log.start,
            "actions": actions,
            "last_obs": self.replay_log.last_obs,
        }
        workers = self.comm.gather(mine)
        if self.comm.rank == 0:
            data = checkpoint.to_bytes(self._content(workers))
            self._pending["iteration"] = (self.counters.iteration, data)
            self._pending["last"] = ("last", data)
        self._write()
        if self.comm.rank == 0:
            self.status.mark_running()

    def _content(self, workers: list[Any]) -> dict[str, Any]:
        return {
            "config": self.experiment.metadata(self.comm.size),
            "agent": self.agent.state_dict(),
            "counters": vars(self.counters).copy(),
            "workers": workers,
        }

    def _write(self) -> None:
        """Write what waits to be written, on rank 0; a disk that does not take it is reported, and not the end."""
        folder, problem, written = self.experiment.checkpoints, "", None
        try:
            self.tracker.flush()  # first: the rows up to here must be there when the checkpoint is
            for kind, (name, data) in list(self._pending.items()):
                write_bytes(folder / checkpoint.file_name(name), data)
                written = name if kind == "iteration" else written
                del self._pending[kind]
        except OSError as error:
            problem = f"checkpoint of iteration {self.counters.iteration} not written: {error.strerror} ({folder})"
            logger.warning(f"{problem}; training goes on, and the next save tries again")
        else:
            keep = self.experiment.settings.train.keep_checkpoints
            checkpoint.prune(folder, keep, self.counters.iteration)
        self.unsaved, written = self.comm.broadcast((problem, written))
        if written is not None:
            self.status.saved_iteration = written


def restore(
    content: Mapping[str, Any], agent: Agent, counters: Counters, env: VectorEnv, comm: Comm, rollout_len: int
) -> ReplayLog:
    """Continue from the content of a checkpoint: load its state into the agent and the counters (collective).

    With as many workers as wrote the checkpoint, the run continues as if it had never stopped. Otherwise the workers
    share its networks and start fresh episodes.

    Returns:
        What this worker's environments have to replay.

    Raises:
        UserError: if the content does not fit the agent.
    """
    workers = content["workers"]
    checkpoint.restore_agent(agent, content["agent"])
    with checkpoint.fitting():
        counters.take_over(content["counters"])
        if len(workers) != comm.size:
            return ReplayLog(counters.iteration)
        mine = workers[comm.rank]
        steps = (rollout_len // env.num_envs, env.num_envs)
        actions = torch.from_numpy(np.empty(steps + env.action_shape, env.action_dtype))
        played = len(mine["actions"])
        expected = {"agent": agent.rank_state_dict(), "start": 0, "actions": [actions] * played, "last_obs": 0}
        checkpoint.check_fit(mine, expected, "worker")
        if {worker["start"] for worker in workers} != {counters.iteration - played} or mine["start"] < 0:
            raise ValueError(f"{played} iterations since {mine['start']} do not lead there")
        agent.load_rank_state_dict(mine["agent"])
        return ReplayLog(mine["start"], [actions.numpy() for actions in mine["actions"]], mine["last_obs"])
