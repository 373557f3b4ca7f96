"""The training loop and the evaluation of a checkpoint; names no algorithm."""

from __future__ import annotations

import json
import logging
import math
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import checkpoint, demos
from helpers.config import to_seconds
from helpers.evaluation import episode_seeds, evaluate, play, shares
from helpers.plots import learning_curve
from helpers.rollout import Rollout, rollout_generator
from helpers.video import Video, cannot_render

if TYPE_CHECKING:
    import gymnasium

    from agents.agent import Agent
    from environments.vector import VectorEnv
    from helpers.comm import Comm
    from helpers.experiment import EvalConfig, ExperimentInitializer, TrainConfig
    from helpers.trackers import Tracker

logger = logging.getLogger(__name__)
NAN = float("nan")


@dataclass
class Counters:
    """How far a run is; part of its checkpoints."""

    iteration: int = 0
    timesteps: int = 0  # environment steps over all workers
    episodes: int = 0
    best_eval_return: float = -math.inf
    last_eval_return: float = NAN
    seconds: float = 0.0  # of training

    def progress(self, config: TrainConfig) -> float:
        """Return the share of the run that is done, from 0 to 1; the same on every worker."""
        return min(max(self.timesteps / config.num_timesteps, self.iteration / (config.num_iters or math.inf)), 1.0)


@dataclass
class Training:
    """A run while it runs."""

    experiment: ExperimentInitializer
    agent: Agent
    comm: Comm
    tracker: Tracker
    eval_env: gymnasium.Env[Any, Any]
    expert_return: float | None = None  # mean return of the demonstrations, the line to reach
    counters: Counters = field(default_factory=Counters)

    def evaluate(self) -> float:
        """Play evaluation episodes with the present policy, keep it if it is the best; return the mean return."""
        config = self.experiment.settings.train
        episodes = evaluate(self.agent, self.eval_env, self.experiment.seed, config.eval_episodes, self.comm)
        mean = statistics.fmean(ret for ret, _ in episodes)
        self.counters.last_eval_return = mean
        if mean > self.counters.best_eval_return:
            self.counters.best_eval_return = mean
            self.save("best")
        return mean

    def save(self, iter_num: int | str) -> None:
        """Write a checkpoint (collective)."""
        random_states = self.comm.gather(self.agent.random_state())
        if self.comm.rank == 0:
            content = {
                "config": self.experiment.record(self.comm.size),
                "agent": self.agent.state_dict(),
                "counters": vars(self.counters).copy(),
                "random_states": random_states,
            }
            checkpoint.save(self.experiment.checkpoints / checkpoint.file_name(iter_num), content)


def do_iteration(rollouts: Iterator[Rollout], run: Training) -> dict[str, float]:
    """Collect one rollout on every worker and learn from all of them; return the metrics."""
    config, counters = run.experiment.settings.train, run.counters
    rollout = next(rollouts)
    losses = run.agent.update(rollout, counters.progress(config))
    counters.iteration += 1
    counters.timesteps += config.rollout_len * run.comm.size
    episodes = [episode for part in run.comm.allgather(rollout.episodes) for episode in part]
    counters.episodes += len(episodes)
    returns = [episode.ret for episode in episodes]
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


def train(run: Training, env: VectorEnv) -> str:
    """Iterate until the steps, the iterations or the time are used up; return which it was."""
    config, counters, comm = run.experiment.settings.train, run.counters, run.comm
    limit = to_seconds(config.execution_time)
    started = time.monotonic()
    rollouts = rollout_generator(env, run.agent, config.rollout_len, run.experiment.seed, comm.rank * env.num_envs)
    reason = ""
    while not reason:
        metrics = do_iteration(rollouts, run)
        if config.hash_frequency and counters.iteration % config.hash_frequency == 0:
            check_agreement(run.agent, comm)
        counters.seconds = time.monotonic() - started
        reason = comm.broadcast(why_stop(counters, config, limit))  # one clock decides for all
        due = config.eval_frequency and counters.iteration % config.eval_frequency == 0
        metrics["eval_return"] = run.evaluate() if due or reason else NAN
        metrics["best_eval_return"] = counters.best_eval_return if math.isfinite(counters.best_eval_return) else NAN
        if counters.iteration % config.save_frequency == 0:
            run.save(counters.iteration)
            run.save("last")
        counters.seconds = time.monotonic() - started
        metrics |= pace(counters, config, limit)
        run.tracker.log(metrics, counters.timesteps)
    run.save(counters.iteration)
    run.save("last")
    check_agreement(run.agent, comm)
    return str(reason)


def why_stop(counters: Counters, config: TrainConfig, limit: float) -> str:
    """Return why the run ends now, or nothing where it goes on."""
    if counters.timesteps >= config.num_timesteps:
        return f"num_timesteps={config.num_timesteps} reached"
    if config.num_iters is not None and counters.iteration >= config.num_iters:
        return f"num_iters={config.num_iters} reached"
    if counters.seconds >= limit:
        return f"execution_time={config.execution_time} used up"
    return ""


def pace(counters: Counters, config: TrainConfig, limit: float) -> dict[str, float]:
    """Return how fast the run is and when it will end."""
    done = counters.progress(config)
    by_steps = counters.seconds * (1.0 - done) / done
    return {
        "seconds": counters.seconds,
        "steps_per_second": counters.timesteps / counters.seconds,
        "time_left": max(min(by_steps, limit - counters.seconds), 0.0),
    }


def check_agreement(agent: Agent, comm: Comm) -> None:
    """Hold the parameters of all workers against each other.

    Raises:
        RuntimeError: where a worker's differ, naming the ranks.
    """
    hashes = comm.allgather(agent.parameter_hash())
    if len(set(hashes)) > 1:
        odd = [rank for rank, value in enumerate(hashes) if value != hashes[0]]
        raise RuntimeError(f"the parameters of rank {odd} differ from those of rank 0")


def finish(run: Training, reason: str) -> str:
    """Draw the learning curve; return what to tell the user (on rank 0)."""
    experiment, counters = run.experiment, run.counters
    picture = experiment.logs / "learning_curve.png"
    learning_curve(experiment.logs / "progress.csv", picture, experiment.name, run.expert_return)
    lines = [
        f"{reason} after {counters.iteration} iterations, {counters.timesteps:,} steps, {counters.seconds:.0f} s",
        f"evaluation return: last {counters.last_eval_return:.1f}, best {counters.best_eval_return:.1f}",
        f"checkpoints:       {experiment.checkpoints}",
        f"logs:              {experiment.logs}",
        f"learning curve:    {picture}",
    ]
    for line in lines:
        logger.info(line)
    return "\n".join(lines)


def play_checkpoint(
    agent: Agent,
    make_env: Any,
    config: EvalConfig,
    seed: int,
    folder: Path,
    env_id: str,
    comm: Comm,
) -> dict[str, Any]:
    """Play `num_trajs` episodes, render and keep them as asked, write ``results.json``; return the results.

    Raises:
        UserError: where rendering is asked for and not possible here.
    """
    window = config.render and bool(os.environ.get("DISPLAY"))
    record = config.record or (config.render and not window)
    mode = "human" if window else "rgb_array" if record else None
    env = make_env(env_id, mode)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = episode_seeds(seed, config.num_trajs)
    mine = {}
    for k in shares(comm, config.num_trajs):
        video = folder / f"episode_{k:03}.mp4" if record else None
        episode = _filmed(agent, env, seeds[k], video) if video else play(agent, env, seeds[k])
        mine[k] = {"return": episode.ret, "length": len(episode), "seed": seeds[k]}
        if config.save_traj:
            attributes = {"env_id": env_id, "seed": seeds[k]}
            demos.write_demo(folder / f"episode_{k:03}.h5", episode, attributes)
        if comm.rank == 0:
            print(f"episode {k:3}: return {episode.ret:10.2f}, length {len(episode)}", flush=True)
    env.close()
    everyone = {k: result for part in comm.allgather(mine) for k, result in part.items()}
    episodes = [everyone[k] for k in range(config.num_trajs)]
    returns = [episode["return"] for episode in episodes]
    results = {
        "env_id": env_id,
        "return_mean": statistics.fmean(returns),
        "return_std": statistics.pstdev(returns),
        "length_mean": statistics.fmean(episode["length"] for episode in episodes),
        "episodes": episodes,
    }
    if comm.rank == 0:
        text = json.dumps(results, indent=2)
        checkpoint.write_atomically(folder / "results.json", lambda temporary: temporary.write_text(text))
    return results


def _filmed(agent: Agent, env: gymnasium.Env[Any, Any], seed: int, path: Path) -> demos.Episode:
    fps = int(env.metadata.get("render_fps") or 30)
    try:
        env.reset(seed=seed)
        env.render()
    except Exception as error:  # no EGL, no OSMesa: MuJoCo raises what it likes
        raise cannot_render(error) from None
    with Video(path, fps) as video:
        return play(agent, env, seed, lambda: video.add(env.render()))
