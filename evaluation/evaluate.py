"""``--task=eval``: evaluate an agent, render or record its episodes, and save them as demonstrations."""

from __future__ import annotations

import functools
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milozero.demonstrations import dataset as demos
from milozero.evaluation.episodes import assign_episodes, episode_seeds, run_episode
from milozero.evaluation.video import VideoWriter, make_render_error
from milozero.helpers.files import write_bytes
from milozero.helpers.logging import logger, pluralize

if TYPE_CHECKING:
    import gymnasium
    from rich.progress import Progress

    from milozero.agents.base import Agent
    from milozero.experiment.settings import EvalConfig
    from milozero.helpers.comm import Comm


def evaluate_checkpoint(
    agent: Agent,
    make_env: Callable[[str | None], gymnasium.Env[Any, Any]],
    config: EvalConfig,
    seed: int,
    folder: Path,
    metadata: Mapping[str, Any],
    comm: Comm,
) -> dict[str, Any]:
    """Run `num_trajs` episodes, write ``results.json`` and the requested videos and demonstrations (collective).

    Each file holds the `metadata`: ``env_id`` and ``env_kwargs``. Returns the content of ``results.json``.

    Raises:
        UserError: if rendering is requested but impossible on this machine.
    """
    window = config.render and bool(os.environ.get("DISPLAY"))
    record = config.record or (config.render and not window)
    mode = "human" if window else "rgb_array" if record else None
    env = make_env(mode)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = episode_seeds(seed, config.num_trajs)
    if record and comm.rank == 0:
        number = pluralize(config.num_trajs, "episode")
        logger.info(f"recording {number}; without a GPU, 1,000 steps take a minute or two")
    max_steps = env.spec.max_episode_steps if env.spec else None
    mine = {}
    with _progress_bar(comm) as bar:
        for k in assign_episodes(comm, config.num_trajs):
            task = bar.add_task(f"episode {k}", total=max_steps, completed=-1)  # the reset is not a step
            callback = None if bar.disable else functools.partial(bar.advance, task)
            if record:
                episode = _record_episode(agent, env, seeds[k], folder / f"episode_{k:03}.mp4", callback)
            else:
                episode = run_episode(agent, env, seeds[k], callback)
            bar.remove_task(task)
            mine[k] = {"return": episode.return_, "length": len(episode), "seed": seeds[k]}
            if config.save_traj:
                demos.write_demo(folder / f"episode_{k:03}.h5", episode, {**metadata, "seed": seeds[k]})
            if comm.rank == 0:
                logger.info(f"episode {k:3}: return {episode.return_:10.2f}, length {len(episode)}")
    env.close()
    by_index = {k: result for part in comm.allgather(mine) for k, result in part.items()}
    results = {**metadata, **_summarize([by_index[k] for k in range(config.num_trajs)])}
    if comm.rank == 0:
        if config.save_traj:
            _remove_old_demos(folder, config.num_trajs)
        write_bytes(folder / "results.json", json.dumps(results, indent=2).encode())
    return results


def _summarize(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    returns = [episode["return"] for episode in episodes]
    return {
        "return_mean": statistics.fmean(returns),
        "return_std": statistics.pstdev(returns),
        "length_mean": statistics.fmean(episode["length"] for episode in episodes),
        "episodes": episodes,
    }


def _remove_old_demos(folder: Path, count: int) -> None:
    """Remove the extra demonstrations of a longer, earlier evaluation: a folder holds those of one policy."""
    numbers = {path: path.stem.partition("_")[2] for path in folder.glob("episode_*.h5")}
    old = [path for path, number in numbers.items() if number.isdecimal() and int(number) >= count]
    for path in old:
        path.unlink()
    if old:
        logger.info(f"removed {pluralize(len(old), 'episode')} of an earlier evaluation from {folder}")


def _progress_bar(comm: Comm) -> Progress:
    """Return a progress bar of rank 0's episode, disabled if stdout is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
    hidden = comm.rank != 0 or not sys.stdout.isatty()
    return Progress(*columns, console=Console(), transient=True, disable=hidden)  # rich caches its first Console


def _record_episode(
    agent: Agent, env: gymnasium.Env[Any, Any], seed: int, path: Path, callback: Callable[[], None] | None
) -> demos.Episode:
    fps = int(env.metadata.get("render_fps") or 30)
    try:
        env.reset(seed=seed)
        env.render()
    except Exception as error:  # without EGL and OSMesa, MuJoCo raises various types
        raise make_render_error(error) from None
    with VideoWriter(path, fps) as video:

        def add_frame() -> None:
            video.add(env.render())
            if callback is not None:
                callback()

        return run_episode(agent, env, seed, add_frame)
