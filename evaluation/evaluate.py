"""What ``--task=eval`` does with an agent: plays it, shows or films it, keeps its episodes as demonstrations."""

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
from milozero.evaluation.episodes import episode_seeds, play, shares
from milozero.evaluation.video import Video, cannot_render
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
    """Play `num_trajs` episodes, render and keep them as asked, write ``results.json``; return the results.

    Args:
        agent: decides.
        make_env: makes the environment for a render mode, or for none.
        config: what to play and to keep.
        seed: of the episodes.
        folder: where files go.
        metadata: ``env_id`` and ``env_kwargs``, to stand in the files.
        comm: the workers, who share the episodes.

    Raises:
        UserError: where rendering is asked for and not possible here.
    """
    window = config.render and bool(os.environ.get("DISPLAY"))
    record = config.record or (config.render and not window)
    mode = "human" if window else "rgb_array" if record else None
    env = make_env(mode)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = episode_seeds(seed, config.num_trajs)
    if record and comm.rank == 0:
        number = pluralize(config.num_trajs, "episode")
        logger.info(f"recording {number}; without a GPU, a thousand steps take a minute or two")
    longest = env.spec.max_episode_steps if env.spec else None
    mine = {}
    with _bar(comm) as bar:
        for k in shares(comm, config.num_trajs):
            task = bar.add_task(f"episode {k}", total=longest, completed=-1)  # what comes of a reset is no step
            stepped = None if bar.disable else functools.partial(bar.advance, task)
            video = folder / f"episode_{k:03}.mp4" if record else None
            episode = _filmed(agent, env, seeds[k], video, stepped) if video else play(agent, env, seeds[k], stepped)
            bar.remove_task(task)
            mine[k] = {"return": episode.return_, "length": len(episode), "seed": seeds[k]}
            if config.save_traj:
                attributes = {**metadata, "seed": seeds[k]}
                demos.write_demo(folder / f"episode_{k:03}.h5", episode, attributes)
            if comm.rank == 0:
                logger.info(f"episode {k:3}: return {episode.return_:10.2f}, length {len(episode)}")
    env.close()
    everyone = {k: result for part in comm.allgather(mine) for k, result in part.items()}
    episodes = [everyone[k] for k in range(config.num_trajs)]
    returns = [episode["return"] for episode in episodes]
    results = {
        **metadata,
        "return_mean": statistics.fmean(returns),
        "return_std": statistics.pstdev(returns),
        "length_mean": statistics.fmean(episode["length"] for episode in episodes),
        "episodes": episodes,
    }
    if comm.rank == 0:
        if config.save_traj:
            _remove_older(folder, config.num_trajs)
        text = json.dumps(results, indent=2)
        write_bytes(folder / "results.json", text.encode())
    return results


def _remove_older(folder: Path, written: int) -> None:
    """Remove demonstrations of an earlier, longer evaluation: the folder is read as those of one policy."""
    numbers = {path: path.stem.partition("_")[2] for path in folder.glob("episode_*.h5")}
    older = [path for path, number in numbers.items() if number.isdecimal() and int(number) >= written]
    for path in older:
        path.unlink()
    if older:
        logger.info(f"removed {pluralize(len(older), 'episode')} of an earlier evaluation from {folder}")


def _bar(comm: Comm) -> Progress:
    """Return what shows on the first worker's terminal how far its episode is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
    hidden = comm.rank != 0 or not sys.stdout.isatty()
    return Progress(*columns, console=Console(), transient=True, disable=hidden)  # rich keeps its first for ever


def _filmed(
    agent: Agent, env: gymnasium.Env[Any, Any], seed: int, path: Path, stepped: Callable[[], None] | None
) -> demos.Episode:
    fps = int(env.metadata.get("render_fps") or 30)
    try:
        env.reset(seed=seed)
        env.render()
    except Exception as error:  # no EGL, no OSMesa: MuJoCo raises what it likes
        raise cannot_render(error) from None
    with Video(path, fps) as video:

        def frame() -> None:
            video.add(env.render())
            if stepped is not None:
                stepped()

        return play(agent, env, seed, frame)
