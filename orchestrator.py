"""The training loop; names no algorithm."""

from __future__ import annotations

import io
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from milozero import environments
from milozero.agents.rollout import ReplayLog, Rollout, fingerprint, rollout_generator
from milozero.evaluation.episodes import evaluate
from milozero.experiment import checkpoint
from milozero.experiment.status import Counters, Status
from milozero.helpers.config.params import to_kwargs
from milozero.helpers.errors import NonFiniteError, RunError
from milozero.helpers.files import write_bytes
from milozero.helpers.logging import logger
from milozero.tracking.plots import learning_curve
from milozero.tracking.tracker import Trackers

if TYPE_CHECKING:
    import gymnasium

    from milozero.agents.base import Agent
    from milozero.environments.vector import VectorEnv
    from milozero.experiment.initializer import ExperimentInitializer
    from milozero.experiment.settings import TrainConfig
    from milozero.experiment.watchdog import Watchdog
    from milozero.helpers.comm import Comm
    from milozero.tracking.tracker import Tracker

NAN = float("nan")


@dataclass
class Training:
    """A run while it runs."""

    experiment: ExperimentInitializer
    agent: Agent
    comm: Comm
    eval_env: gymnasium.Env[Any, Any]
    counters: Counters
    status: Status
    expert_return: float | None = None  # mean return of the demonstrations, the line to reach
    tracker: Tracker = field(default_factory=Trackers)
    watchdog: Watchdog = field(init=False)
    replay_log: ReplayLog = field(default_factory=ReplayLog)  # of this worker's environments
    unsaved: str = ""  # why the last checkpoint could not be written; nothing where it was
    # kind → name and bytes of checkpoints to write, or that the disk did not take
    _waiting: dict[str, tuple[int | str, bytes]] = field(default_factory=dict)

    def restore(self, content: Mapping[str, Any], env: VectorEnv) -> None:
        """Go on from a checkpoint's content.

        With as many workers as wrote it, everything is as if the run had never stopped. Others share its
        networks, and start fresh episodes.

        Raises:
            UserError: where the content does not fit the agent.
        """
        config, workers = self.experiment.settings.train, content["workers"]
        checkpoint.restore_agent(self.agent, content["agent"])
        with checkpoint.fitting():
            self.counters.take_over(content["counters"])
            self.replay_log.start = self.counters.iteration
            if len(workers) == self.comm.size:
                mine = workers[self.comm.rank]
                steps = (config.rollout_len // env.num_envs, env.num_envs)
                actions = torch.from_numpy(np.empty(steps + env.action_shape, env.action_dtype))
                played = len(mine["actions"])
                wanted = {
                    "agent": self.agent.rank_state_dict(),
                    "start": 0,
                    "actions": [actions] * played,
                    "last_obs": 0,
                }
                checkpoint.check_fit(mine, wanted, "worker")
                if {worker["start"] for worker in workers} != {self.counters.iteration - played} or mine["start"] < 0:
                    raise ValueError(f"{played} iterations since {mine['start']} do not lead there")
                self.agent.load_rank_state_dict(mine["agent"])
                self.replay_log.start, self.replay_log.actions = (
                    mine["start"],
                    [actions.numpy() for actions in mine["actions"]],
                )
                self.replay_log.last_obs = mine["last_obs"]
        self.status.saved_iteration = self.counters.iteration

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
                self._waiting["best"] = ("best", checkpoint.to_bytes(self._content([])))
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
            self._waiting["iteration"] = (self.counters.iteration, data)
            self._waiting["last"] = ("last", data)
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
            for kind, (name, data) in list(self._waiting.items()):
                write_bytes(folder / checkpoint.file_name(name), data)
                written = name if kind == "iteration" else written
                del self._waiting[kind]
        except OSError as error:
            problem = f"checkpoint of iteration {self.counters.iteration} not written: {error.strerror} ({folder})"
            logger.warning(f"{problem}; training goes on, and the next save tries again")
        else:
            keep = self.experiment.settings.train.keep_checkpoints
            checkpoint.prune(folder, keep, self.counters.iteration)
        self.unsaved, written = self.comm.broadcast((problem, written))
        if written is not None:
            self.status.saved_iteration = written


def do_iteration(rollouts: Iterator[Rollout], run: Training) -> dict[str, float]:
    """Collect one rollout on every worker and learn from all of them; return the metrics."""
    config, counters = run.experiment.settings.train, run.counters
    rollout = next(rollouts)
    losses = run.agent.update(rollout, counters.progress(config))
    counters.iteration += 1
    counters.timesteps += config.rollout_len * run.comm.size
    episodes = [episode for part in run.comm.allgather(rollout.episodes) for episode in part]
    counters.episodes += len(episodes)
    returns = [episode.return_ for episode in episodes]
    return {
        "iteration": counters.iteration,
        "timesteps": counters.timesteps,
        "episodes": counters.episodes,
        "progress": counters.progress(config),
        "return_mean": statistics.fmean(returns) if returns else NAN,
        "return_min": min(returns, default=NAN),
        "return_max": max(returns, default=NAN),
        "length_mean": statistics.fmean(e.length for e in episodes) if episodes else NAN,
        **losses,
    }


def train(run: Training, env: VectorEnv) -> tuple[str, str]:
    """Iterate until the steps, the iterations or the time are used up, or a signal comes.

    Returns:
        ``finished`` or ``stopped``, and why.

    Raises:
        RunError: where the run is over and its last checkpoint could not be written.
    """
    config, counters, comm = run.experiment.settings.train, run.counters, run.comm
    rollouts = rollout_generator(
        env,
        run.agent,
        config.rollout_len,
        run.experiment.seed,
        comm.rank * env.num_envs,
        reset_interval=reset_interval(config, to_kwargs(run.experiment.settings.common.env_kwargs)),
        replay_log=run.replay_log,
    )
    finished, stopped = budget_exhausted(counters, config) or run.agent.finished, ""
    if run.replay_log.actions and not finished:
        stopped = replay(run, rollouts)
    earlier = counters.seconds  # of the launches before this one
    started = time.monotonic()
    while not finished and not stopped:
        run.watchdog.iteration(counters.iteration + 1)
        metrics = do_iteration(rollouts, run)
        if config.sync_check_frequency and counters.iteration % config.sync_check_frequency == 0:
            check_param_sync(run.agent, comm)
        finished = budget_exhausted(counters, config) or run.agent.finished
        stopped = run.watchdog.agree_to_stop()
        due = config.eval_frequency and counters.iteration % config.eval_frequency == 0
        metrics["eval_return"] = run.evaluate() if due or finished else NAN
        metrics["best_eval_return"] = counters.best_eval_return if math.isfinite(counters.best_eval_return) else NAN
        counters.seconds = earlier + time.monotonic() - started
        metrics |= throughput(counters, config, run.watchdog.seconds_left())
        run.tracker.log(metrics, counters.timesteps)
        if counters.iteration % config.save_frequency == 0 or finished or stopped:
            run.save()
    check_param_sync(run.agent, comm)
    if run.unsaved:
        raise RunError(f"the last {run.unsaved}", everywhere=True)
    return ("finished", finished) if finished else ("stopped", stopped)


def replay(run: Training, rollouts: Iterator[Rollout]) -> str:
    """Bring the environments of a resumed run back to where they were; return why to stop, or nothing.

    A run that is stopped meanwhile saves nothing: what it goes on from is still right.
    """
    total, wanted = len(run.replay_log.actions), run.replay_log.last_obs
    for number in range(1, total + 1):
        run.watchdog.iteration(run.replay_log.start + number)
        rollout = next(rollouts)
        if stopped := run.watchdog.agree_to_stop():
            return stopped
        if run.comm.rank == 0 and number % max(total // 10, 1) == 0:
            logger.info(f"replayed {number} of {total} iterations")
    if not all(run.comm.allgather(wanted == fingerprint(rollout.obs[-1]))) and run.comm.rank == 0:
        logger.warning("the environments are not where they were: seed and actions do not determine what they do")
    return ""


def run_training(run: Training, env: VectorEnv) -> tuple[str, str]:
    """Train; whatever becomes of it, ``status.json`` says it.

    Raises:
        RunError: where the run failed in a way that is known here.
    """
    if run.comm.rank == 0:
        run.status.write("running", "")
    try:
        state, reason = train(run, env)
    except NonFiniteError as error:
        story = dump_nonfinite(run, error)
        run.status.write("failed", story)
        raise RunError(story, everywhere=error.everywhere) from None
    except BaseException as error:
        run.status.write("failed", f"worker {run.comm.rank}: {type(error).__name__}: {error}")
        raise
    if run.comm.rank == 0:
        run.status.learned = bool(run.agent.finished)
        run.status.write(state, reason)
    return state, reason


def reset_interval(config: TrainConfig, env_kwargs: dict[str, Any]) -> int:
    """Return the iterations between fresh starts of the environments: at each checkpoint, and not much rarer.

    Between them a checkpoint holds every action, and resuming plays them all again, which takes the longer the slower
    the simulator is.
    """
    longest = environments.find_suite(config.env_id).max_replay_steps(env_kwargs)
    return min(config.save_frequency, max(longest // config.rollout_len, 1))


def warn_if_truncated(config: TrainConfig, env_kwargs: dict[str, Any], limit: int | None) -> str:
    """Return what to say where episodes of up to `limit` steps cannot end between two fresh starts; else nothing."""
    every = reset_interval(config, env_kwargs)
    steps = every * config.rollout_len // config.num_envs
    if not limit or steps >= limit:
        return ""
    cure = "a larger --save_frequency or fewer" if every == config.save_frequency else "fewer"
    return (
        f"each environment starts a fresh episode every {steps} steps, to be resumable, and episodes can last "
        f"{limit}: {cure} --num_envs let them end"
    )


def budget_exhausted(counters: Counters, config: TrainConfig) -> str:
    """Return what is used up of the run's steps and iterations, or nothing where it goes on."""
    if counters.timesteps >= config.num_timesteps:
        return f"num_timesteps={config.num_timesteps} reached"
    if config.num_iters is not None and counters.iteration >= config.num_iters:
        return f"num_iters={config.num_iters} reached"
    return ""


def throughput(counters: Counters, config: TrainConfig, seconds_left: float) -> dict[str, float]:
    """Return how fast the run is and when it will end, in `seconds_left` at the latest."""
    done = counters.progress(config)
    by_steps = counters.seconds * (1.0 - done) / done
    return {
        "seconds": counters.seconds,
        "steps_per_second": counters.timesteps / counters.seconds,
        "time_left": max(min(by_steps, seconds_left), 0.0),
    }


def check_param_sync(agent: Agent, comm: Comm) -> None:
    """Hold the parameters of all workers against each other.

    Raises:
        RunError: where a worker's differ, naming the ranks.
    """
    hashes = comm.allgather(agent.parameter_hash())
    if len(set(hashes)) > 1:
        odd = [rank for rank, value in enumerate(hashes) if value != hashes[0]]
        raise RunError(f"the parameters of rank {odd} differ from those of rank 0", everywhere=True)


def write_summary(run: Training, state: str, reason: str) -> list[str]:
    """Draw the learning curve; return the lines to tell the user (on rank 0)."""
    experiment, counters = run.experiment, run.counters
    picture = experiment.logs / "learning_curve.png"
    lines = [
        f"{state}: {reason} after {counters.iteration} iterations, {counters.timesteps:,} steps, "
        f"{counters.seconds:.0f} s",
        f"checkpoints:       {experiment.checkpoints}",
        f"logs:              {experiment.logs}",
    ]
    if math.isfinite(counters.best_eval_return):
        last, best = counters.last_eval_return, counters.best_eval_return
        expert = f"; the expert's {run.expert_return:.1f}" if run.expert_return is not None else ""
        lines.insert(1, f"evaluation return: last {last:.1f}, best {best:.1f}{expert}")
    try:
        learning_curve(experiment.logs / "progress.csv", picture, experiment.name, run.expert_return)
        lines.append(f"learning curve:    {picture}")
    except OSError as error:
        lines.append(f"learning curve:    not drawn: {error.strerror}")
    if state == "stopped":
        lines.append(f"to go on:          the same command with --resume --uuid={experiment.name}")
    return lines


def dump_nonfinite(run: Training, error: NonFiniteError) -> str:
    """Write down what a number that is not finite came from, on the worker that knows; return what to tell."""
    path = run.experiment.logs / "non_finite.pt"
    if error.rank in (None, run.comm.rank):
        where = {"message": str(error), "worker": run.comm.rank, "iteration": run.counters.iteration + 1}
        evidence = {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in error.evidence.items()}
        buffer = io.BytesIO()
        torch.save(where | evidence, buffer)
        try:
            write_bytes(path, buffer.getvalue())
        except OSError as problem:
            logger.warning(f"{path} not written: {problem.strerror}")
    if error.rank is not None:
        run.comm.barrier()  # nobody ends the job before it is written
    who = f"worker {run.comm.rank}: " if error.rank is None else ""
    good = run.status.saved_iteration
    kept = "there is no checkpoint yet" if good is None else f"the checkpoint of iteration {good} is kept"
    when = f"{run.experiment.env_id}, iteration {run.counters.iteration + 1}"
    return f"{when}: {who}{error}; {kept}; what it came from is in {path}"
