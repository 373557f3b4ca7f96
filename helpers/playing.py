"""What ``--task=eval`` does with an agent: plays it, shows or films it, keeps its episodes as demonstrations."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import checkpoint, demos
from helpers.evaluation import episode_seeds, play, shares
from helpers.say import say
from helpers.video import Video, cannot_render

if TYPE_CHECKING:
    import gymnasium

    from agents.agent import Agent
    from helpers.comm import Comm
    from helpers.settings import EvalConfig


def play_checkpoint(
    agent: Agent,
    make_env: Callable[[str | None], gymnasium.Env[Any, Any]],
    config: EvalConfig,
    seed: int,
    folder: Path,
    facts: Mapping[str, Any],
    comm: Comm,
) -> dict[str, Any]:
    """Play `num_trajs` episodes, render and keep them as asked, write ``results.json``; return the results.

    Args:
        agent: decides.
        make_env: makes the environment for a render mode, or for none.
        config: what to play and to keep.
        seed: of the episodes.
        folder: where files go.
        facts: ``env_id`` and ``env_kwargs``, to stand in the files.
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
    mine = {}
    for k in shares(comm, config.num_trajs):
        video = folder / f"episode_{k:03}.mp4" if record else None
        episode = _filmed(agent, env, seeds[k], video) if video else play(agent, env, seeds[k])
        mine[k] = {"return": episode.ret, "length": len(episode), "seed": seeds[k]}
        if config.save_traj:
            attributes = {**facts, "seed": seeds[k]}
            demos.write_demo(folder / f"episode_{k:03}.h5", episode, attributes)
        if comm.rank == 0:
            say(f"episode {k:3}: return {episode.ret:10.2f}, length {len(episode)}")
    env.close()
    everyone = {k: result for part in comm.allgather(mine) for k, result in part.items()}
    episodes = [everyone[k] for k in range(config.num_trajs)]
    returns = [episode["return"] for episode in episodes]
    results = {
        **facts,
        "return_mean": statistics.fmean(returns),
        "return_std": statistics.pstdev(returns),
        "length_mean": statistics.fmean(episode["length"] for episode in episodes),
        "episodes": episodes,
    }
    if comm.rank == 0:
        if config.save_traj:
            _remove_older(folder, config.num_trajs)
        text = json.dumps(results, indent=2)
        checkpoint.write_bytes(folder / "results.json", text.encode())
    return results


def _remove_older(folder: Path, written: int) -> None:
    """Remove demonstrations of an earlier, longer evaluation: the folder is read as those of one policy."""
    numbers = {path: path.stem.partition("_")[2] for path in folder.glob("episode_*.h5")}
    older = [path for path, number in numbers.items() if number.isdecimal() and int(number) >= written]
    for path in older:
        path.unlink()
    if older:
        say(f"removed {len(older)} episodes of an earlier evaluation from {folder}")


def _filmed(agent: Agent, env: gymnasium.Env[Any, Any], seed: int, path: Path) -> demos.Episode:
    fps = int(env.metadata.get("render_fps") or 30)
    try:
        env.reset(seed=seed)
        env.render()
    except Exception as error:  # no EGL, no OSMesa: MuJoCo raises what it likes
        raise cannot_render(error) from None
    with Video(path, fps) as video:
        return play(agent, env, seed, lambda: video.add(env.render()))
