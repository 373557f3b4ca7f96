"""The state of a training run: evaluated, saved to checkpoints and restored from them."""

from __future__ import annotations

import contextlib
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium

from milozero.agents.base import Agent
from milozero.agents.episodes import EpisodeLog, EpisodeStats
from milozero.environments.vector import VectorEnv, close_env
from milozero.evaluation.episodes import Limits, choose_max_steps, describe_cut_off, evaluate_policy
from milozero.evaluation.recording import Recorder
from milozero.experiment import checkpoint
from milozero.experiment.initializer import ExperimentInitializer
from milozero.experiment.replay_files import FOLDER, ReplayFiles, Segment, check_segments, load, shards_of
from milozero.experiment.status import Counters, Status
from milozero.experiment.watchdog import Watchdog
from milozero.helpers.comm import Comm
from milozero.helpers.files import write_bytes
from milozero.helpers.logging import logger
from milozero.tracking.tracker import Tracker
from milozero.training.pace import Pace

STATS_WINDOW_SIZE = 100  # episodes in rolling means, as in Stable-Baselines3
EVALUATION_GRACE_S = 30.0  # that an evaluation may take beyond the time limit


@dataclass
class Training:
    """The state of a training run."""

    experiment: ExperimentInitializer
    agent: Agent
    env: VectorEnv  # of this worker
    eval_env: gymnasium.Env[Any, Any] | None  # None if it cannot exist beside `env`
    make_eval_env: Callable[[], gymnasium.Env[Any, Any]]
    envs: contextlib.ExitStack  # closes the environments
    comm: Comm
    counters: Counters
    status: Status
    tracker: Tracker
    watchdog: Watchdog
    episodes: EpisodeLog  # current ones of this worker's environments
    expert_return: float | None  # mean return of the expert
    init_summary: str  # what a new run copied from ``--init_from``; empty without it
    compiled: bool
    recorder: Recorder = field(default_factory=Recorder)
    replay: ReplayFiles | None = None  # of this worker; None if there is no replay buffer
    pace: Pace = field(default_factory=Pace)
    start_time: float = 0.0  # ``time.monotonic()`` minus the seconds that the run has trained
    # the last training episodes of all workers, oldest first; saved in checkpoints
    recent_episodes: deque[EpisodeStats] = field(default_factory=lambda: deque(maxlen=STATS_WINDOW_SIZE))
    # metrics of an iteration that was saved before its evaluation; empty once it is evaluated
    unevaluated: dict[str, float] = field(default_factory=dict)
    save_error: str = ""  # why the last checkpoint could not be written; empty on success
    # kind → name, iteration and bytes of checkpoints not written yet, e.g. because the disk is full
    _pending: dict[str, tuple[int | str, int, bytes]] = field(default_factory=dict)
    _num_cut_off: int = 0  # episodes of the last evaluation

    def evaluate(self) -> list[float] | None:
        """Evaluate the current policy and save it if it is the best (collective).

        If no other environment can exist beside `env`, this closes `env`, so the run must end.

        Returns:
            The returns of the episodes; None if a signal or the time limit interrupted the evaluation.
        """
        if any(self.comm.allgather(self.watchdog.should_interrupt(EVALUATION_GRACE_S))):
            return None
        if self.eval_env is None:
            self.envs.close()
            self.eval_env = self.make_eval_env()
            self.envs.callback(close_env, self.eval_env)
        settings = self.experiment.settings
        count = settings.train.eval_episodes
        max_steps = choose_max_steps(settings.common.eval_max_steps, self.env.time_limit)
        limits = Limits(max_steps, lambda: self.watchdog.should_interrupt(EVALUATION_GRACE_S))
        results = evaluate_policy(
            self.agent,
            self.eval_env,
            self.experiment.seed,
            count,
            self.comm,
            limits,
            stochastic=settings.common.eval_stochastic,
        )
        if len(results) < count:
            return None
        num_cut_off = sum(result.cut_off for result in results)
        if num_cut_off != self._num_cut_off and self.comm.rank == 0:
            logger.warning(describe_cut_off(num_cut_off, count, max_steps))
        self._num_cut_off = num_cut_off
        returns = [result.return_ for result in results]
        mean = statistics.fmean(returns)
        self.counters.last_eval_return = mean
        if mean > self.counters.best_eval_return:
            self.counters.best_eval_return = mean
            # Evaluations of a resumed run may differ from before; best.pt must not get a worse policy.
            if self.comm.rank == 0 and not mean < self.experiment.best_eval_return:
                self._pending["best"] = ("best", 0, checkpoint.to_bytes(self._content([])))
            self._write()
        return returns

    def save(self, *, only_last: bool = False) -> None:
        """Write a checkpoint of this iteration, as ``last`` and, unless `only_last`, by its number (collective)."""
        replay, problem = self._save_replay()
        rank_state = {"agent": self.agent.rank_state_dict(), "episodes": self.episodes.state_dict(self.env)}
        workers = self.comm.gather(rank_state | replay)
        problem = next(filter(None, self.comm.allgather(problem)), "")
        if problem and self.comm.rank == 0:
            logger.warning(f"{problem}; training continues, and the next save retries")
        elif self.comm.rank == 0:
            iteration, data = self.counters.iteration, checkpoint.to_bytes(self._content(workers))
            if not only_last:
                self._pending["iteration"] = (iteration, iteration, data)
            self._pending["last"] = ("last", iteration, data)
        self._write()
        if self.comm.rank == 0:
            self.status.write("running", "", unless_ended=True)
        self.save_error = problem or self.save_error
        if self.replay is not None and not self.save_error:
            self.replay.checkpoint_written(only_last=only_last)

    def record(self, *, is_last: bool) -> None:
        """Start to record a video every ``--record_frequency`` iterations and at the end; log complete ones."""
        self.recorder.collect(self._log_video)
        frequency, iteration = self.experiment.settings.train.record_frequency, self.counters.iteration
        if frequency and (is_last or iteration % frequency == 0):
            folder = self.experiment.logs / "videos"
            self.recorder.start(folder, iteration, lambda: checkpoint.to_bytes(self._content([])), is_last=is_last)

    def finish_recording(self) -> None:
        """Wait for the last video, unless the run was asked to stop."""
        self.watchdog.disarm()  # Ctrl-C ends only the wait
        self.recorder.finish(self._log_video, lambda: self.watchdog.interrupted or self.watchdog.should_interrupt())

    def _log_video(self, path: Path, caption: str) -> None:
        self.tracker.log_video("video", path, caption)

    def break_episodes(self) -> None:
        """Truncate the current episodes in the replay buffer, because new ones have started."""
        if self.replay is not None and self.agent.replay_buffer is not None:
            self.agent.replay_buffer.break_episodes()
            self.replay.rewrite()

    def _save_replay(self) -> tuple[dict[str, list[Segment]], str]:
        """Write the new steps of the replay buffer; return its files and why they could not be written, or ""."""
        if self.replay is None or self.agent.replay_buffer is None:
            return {}, ""
        try:
            return {"replay": self.replay.save(self.agent.replay_buffer)}, ""
        except OSError as error:
            where = f"{error.strerror} ({self.replay.folder})"
            return {"replay": []}, f"checkpoint of iteration {self.counters.iteration} not written: {where}"

    def _content(self, workers: list[Any]) -> dict[str, Any]:
        return {
            "config": self.experiment.metadata(),
            "agent": self.agent.state_dict(),
            "counters": vars(self.counters).copy(),
            "workers": workers,
            "unevaluated": to_plain(self.unevaluated),
            "recent_episodes": [[episode.return_, episode.length] for episode in self.recent_episodes],
        }

    def _write(self) -> None:
        """Write pending checkpoints on rank 0. A failure only logs a warning; the next call retries."""
        folder, problem, written = self.experiment.checkpoints, "", None
        try:
            if self.comm.rank == 0:
                self.experiment.write_metadata(only_missing=True)  # its folders may have been removed
            self.tracker.flush()  # first, so that a checkpoint is never ahead of progress.csv
            for kind, (name, iteration, data) in list(self._pending.items()):
                write_bytes(folder / checkpoint.file_name(name), data)
                written = written if kind == "best" else iteration
                del self._pending[kind]
        except OSError as error:
            problem = f"checkpoint of iteration {self.counters.iteration} not written: {error.strerror} ({folder})"
            logger.warning(f"{problem}; training continues, and the next save retries")
        else:
            keep = self.experiment.settings.train.keep_checkpoints
            checkpoint.prune(folder, keep, self.counters.iteration)
        self.save_error, written = self.comm.broadcast((problem, written))
        if written is not None:
            self.status.saved_iteration = written


def restore(
    content: Mapping[str, Any], agent: Agent, counters: Counters, env: VectorEnv, comm: Comm, rollout_len: int
) -> EpisodeLog:
    """Load the content of a checkpoint into the agent and the counters (collective).

    With the number of workers that wrote the checkpoint, the run continues bit-exactly. With another number, all
    workers load the networks and start new episodes.

    Returns:
        The current episodes of this worker's environments.

    Raises:
        UserError: if the content does not match the agent.
    """
    workers = content["workers"]
    checkpoint.restore_agent(agent, content["agent"])
    with checkpoint.convert_errors():
        counters.load_state_dict(content["counters"])
        if len(workers) != comm.size:
            return EpisodeLog(env.num_envs, counters.iteration)
        state = workers[comm.rank]
        episodes = EpisodeLog(env.num_envs)
        expected = episodes.state_dict(env)
        no_actions = expected["actions"]
        expected["actions"] = no_actions.new_empty(len(state["episodes"]["actions"]), *no_actions.shape[1:])
        replay = {"replay": check_segments(state.get("replay"))} if agent.replay_buffer is not None else {}
        expected = {"agent": agent.rank_state_dict(), "episodes": expected} | replay
        checkpoint.check_structure(state, expected, "worker")
        agent.load_rank_state_dict(state["agent"])
        episodes.load_state_dict(state["episodes"], env, counters.iteration * (rollout_len // env.num_envs))
        return episodes


def restore_replay(content: Mapping[str, Any], agent: Agent, checkpoints: Path, comm: Comm) -> list[Segment]:
    """Fill the replay buffer of an agent, if it has one, from the files beside a checkpoint.

    With another number of workers, the former workers' steps are shared out among them.

    Returns:
        This worker's files; empty if they do not hold the buffer as it is now.

    Raises:
        UserError: if a file is missing or damaged, or the checkpoint does not match the agent.
    """
    if agent.replay_buffer is None:
        return []
    with checkpoint.convert_errors():
        shards = [check_segments(worker["replay"]) for worker in content["workers"]]
    reason = "" if any(shards) else "the checkpoint was saved without it"
    if not reason and not (checkpoints / FOLDER).exists():
        reason = f"{checkpoints / FOLDER} is missing"
    if reason:
        if comm.rank == 0:
            logger.warning(f"not bit-exact: the replay buffer starts empty, because {reason}")
        return []
    exact = len(shards) == comm.size
    own = [shards[rank] for rank in shards_of(comm.rank, comm.size, len(shards))]
    load(agent.replay_buffer, checkpoints, own, exact=exact)
    return own[0] if exact else []


def restore_unevaluated(content: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of an iteration that was saved before its evaluation; empty if there are none.

    Raises:
        UserError: if they are not a mapping from names to numbers.
    """
    metrics = content.get("unevaluated", {})
    with checkpoint.convert_errors():
        return to_plain(metrics)


def restore_recent_episodes(content: Mapping[str, Any]) -> list[EpisodeStats]:
    """Return the last training episodes before a checkpoint; empty if the checkpoint does not contain them.

    Raises:
        UserError: if they are not pairs of numbers.
    """
    with checkpoint.convert_errors():
        return [EpisodeStats(float(return_), int(length)) for return_, length in content.get("recent_episodes", [])]


def to_plain(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as plain Python numbers, not NumPy's."""
    return {str(name): value if isinstance(value, int) else float(value) for name, value in metrics.items()}
