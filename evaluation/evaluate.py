"""``--task=eval``: evaluate a checkpoint, render or record its episodes, and save them as demonstrations."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milozero import environments
from milozero.demonstrations import dataset as demos
from milozero.environments.standard_env import is_provided
from milozero.environments.vector import close_env, get_time_limit
from milozero.evaluation.downloads import download_checkpoint
from milozero.evaluation.episodes import (
    Limits,
    choose_max_steps,
    describe_cut_off,
    make_eval_env,
    run_episode,
    share_episodes,
    summarize_returns,
)
from milozero.evaluation.loading import load_agent
from milozero.evaluation.tracking import track_evaluation
from milozero.evaluation.video import make_render_error, read_fps, to_frame, write_video
from milozero.experiment import checkpoint
from milozero.experiment.hardware import select_device, use_one_thread
from milozero.experiment.initializer import git_sha
from milozero.experiment.settings import EPISODE_SEEDS
from milozero.experiment.status import NoStatus
from milozero.experiment.watchdog import start_watchdog
from milozero.helpers.config.values import from_kwargs
from milozero.helpers.errors import NonFiniteError, RunError, UserError, describe_exception
from milozero.helpers.files import write_bytes
from milozero.helpers.logging import is_quiet, log_result, logger, pluralize

if TYPE_CHECKING:
    import gymnasium
    from rich.progress import Progress

    from milozero.agents.base import Agent
    from milozero.experiment.launch import Launch
    from milozero.experiment.settings import EvalConfig, Settings
    from milozero.experiment.watchdog import Watchdog
    from milozero.helpers.comm import Comm


def evaluate(settings: Settings, launch: Launch) -> None:
    """Evaluate a checkpoint, which determines the algorithm, the environment and the networks.

    A signal or ``--execution_time`` ends the evaluation early, with the results of the finished episodes.

    Raises:
        UserError: if the checkpoint cannot be used, or the evaluation's folder cannot be created.
        RunError: if a value is NaN or infinite, a file cannot be written, or the evaluation was stopped before an
            episode ended.
    """
    use_one_thread()
    config, data, comm = settings.evaluation, Path(settings.common.data_dir), launch.comm
    rendered = config.render or config.record
    if rendered:
        environments.choose_renderer()
    is_default = "iter_num" not in settings.explicit
    model_path = config.model_path or comm.on_root(lambda: str(download_checkpoint(config, data, is_default)))
    path = checkpoint.find(model_path, config.iter_num, is_default=is_default)
    loaded = load_agent(path, settings.common.env_kwargs, select_device(settings, comm), rendered=rendered)
    trained, env_id = loaded.settings, loaded.env_id
    seed = (trained if settings.common.seed is None else settings).common.seed or 0
    max_steps = settings.common.eval_max_steps or trained.common.eval_max_steps
    stochastic = (settings if "eval_stochastic" in settings.explicit else trained).common.eval_stochastic
    name = trained.train.uuid
    if comm.rank == 0:
        logger.info(f"{path}: {trained.train.algo} on {env_id}, iteration {loaded.iteration}")
        is_run_seed = seed == (trained.common.seed or 0)
        logger.info(describe_episodes(config, seed, is_run_seed=is_run_seed, stochastic=stochastic))
        if config.render and not os.environ.get("DISPLAY"):
            logger.info("no display: --render records videos")
    make = functools.partial(make_eval_env, env_id, loaded.env_kwargs, seed)
    metadata: dict[str, Any] = {"env_id": env_id, "env_kwargs": from_kwargs(loaded.env_kwargs)}
    metadata |= {"checkpoint": path.name, "iteration": loaded.iteration}
    provenance = {"experiment": name, "algo": trained.train.algo, "seed": seed, "command": " ".join(sys.argv)}
    provenance |= {"git_sha": comm.on_root(git_sha), **environments.get_versions(env_id)}
    parent = data / "evaluations" / name
    folder = comm.on_root(lambda: create_folder(parent, path.stem, config.eval_name))
    watchdog = start_watchdog(settings.common, launch, NoStatus(), unit="episode")
    try:
        results = evaluate_checkpoint(
            loaded.agent,
            make,
            config,
            seed,
            folder,
            metadata,
            comm,
            max_steps,
            watchdog,
            stochastic=stochastic,
            provenance=provenance,
        )
    except BaseException as error:
        with contextlib.suppress(OSError):
            folder.rmdir()  # if it is empty
        if isinstance(error, NonFiniteError):
            raise RunError(f"{env_id}, worker {comm.rank}: {error}") from None
        raise
    finally:
        watchdog.disarm()
    if comm.rank == 0:
        mean, std = results["return_mean"], results["return_std"]
        episodes = pluralize(len(results["episodes"]), "episode")
        length = f"length {results['length_mean']:.0f}"
        log_result(f"return {mean:.2f} ± {std:.2f} (mean ± standard deviation over {episodes}), {length}")
        for kind, pattern in (("videos", "*.mp4"), ("trajectories", "*.h5"), ("results", "results.json")):
            if any(folder.glob(pattern)):
                logger.info(f"{kind + ':':14}{folder}/{pattern}")
        if tracker := track_evaluation(settings, name, results, folder):
            launch.cleanup.callback(lambda: tracker.wait(math.inf, lambda: watchdog.interrupted))


def create_folder(parent: Path, checkpoint: str, name: str = "") -> Path:
    """Create and return a folder for one evaluation, so that its files never mix with those of another.

    Args:
        parent: holds the evaluations of one experiment.
        checkpoint: names the folder; a repeated evaluation adds ``-2``, ``-3``, ...
        name: replaces the name of the checkpoint, unless it is empty.

    Raises:
        UserError: if the folder `name` exists, or no folder can be created.
    """
    numbered = (f"{checkpoint}-{number}" for number in itertools.count(2))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for candidate in [name] if name else itertools.chain([checkpoint], numbered):
            with contextlib.suppress(FileExistsError):
                (parent / candidate).mkdir()
                return parent / candidate
    except OSError as error:
        raise UserError(f"cannot write to {parent}: {error.strerror}") from None
    raise UserError(f"--eval_name={name}: {parent / name} already exists; choose another name")


def evaluate_checkpoint(
    agent: Agent,
    make_env: Callable[[str | None], gymnasium.Env[Any, Any]],
    config: EvalConfig,
    seed: int,
    folder: Path,
    metadata: Mapping[str, Any],
    comm: Comm,
    max_steps: int | None = None,
    watchdog: Watchdog | None = None,
    *,
    stochastic: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run `num_trajs` episodes, write ``results.json`` and the requested videos and demonstrations (collective).

    Results and demonstrations contain the `metadata`, environment and checkpoint; results also the `provenance`, such
    as the command. Episodes are cut off after
    `max_steps`, whose default depends on the environment. The `watchdog` can stop the evaluation early. If
    `stochastic`, actions are sampled. Returns the content of ``results.json``.

    Raises:
        UserError: if rendering is requested but impossible on this machine.
        RunError: if a file cannot be written, or the evaluation was stopped before an episode ended.
    """
    seeds = "demonstrations" if config.save_traj and config.episode_seeds == "test" else config.episode_seeds
    metadata = {**metadata, "episode_seeds": seeds, "eval_stochastic": stochastic}
    window = config.render and bool(os.environ.get("DISPLAY"))
    record = config.record or (config.render and not window)
    if record and comm.rank == 0:
        number = pluralize(config.num_trajs, "episode")
        logger.info(f"recording {number}; without a GPU, 1,000 steps take a minute or two")
    env = make_env("human" if window else "rgb_array" if record else None)
    time_limit = get_time_limit(env)
    limits = Limits(choose_max_steps(max_steps, time_limit), watchdog.should_interrupt if watchdog else lambda: False)
    total = min(time_limit or math.inf, limits.max_steps)

    def run(index: int, seed: int) -> dict[str, Any]:
        if watchdog:
            watchdog.start_iteration(index)
        task = bar.add_task(f"episode {index}", total=total, completed=-1)  # the reset is not a step
        advance = functools.partial(bar.advance, task)
        if record:
            path = folder / f"episode_{index:03}.mp4"
            episode = _record_episode(agent, env, seed, path, advance, limits, stochastic=stochastic)
        else:
            episode = run_episode(agent, env, seed, advance, limits, stochastic=stochastic)
        bar.remove_task(task)
        if config.save_traj:
            with _convert_write_errors(folder):
                demos.write_demo(folder / f"episode_{index:03}.h5", episode, {**metadata, "seed": seed})
        if comm.rank == 0:
            logger.info(f"episode {index:3}: return {episode.return_:10.2f}, length {len(episode)}")
        cut_off = {"cut_off": True} if limits.has_cut_off(episode) else {}
        # the index is that of the files: an evaluation that was stopped may lack episodes of some workers
        return {"index": index, "return": episode.return_, "length": len(episode), "seed": seed} | cut_off

    try:
        with _progress_bar(comm) as bar:
            episodes = share_episodes(run, seed, config.num_trajs, comm, EPISODE_SEEDS[seeds])
        if watchdog and len(episodes) < config.num_trajs:
            reason = watchdog.agree_to_stop() or "time limit reached"
            if not episodes:
                raise RunError(f"evaluation stopped before an episode ended: {reason}", everywhere=True)
            if comm.rank == 0:
                logger.warning(f"evaluation stopped after {len(episodes)} of {config.num_trajs} episodes: {reason}")
        num_cut_off = sum("cut_off" in episode for episode in episodes)
        if num_cut_off and comm.rank == 0:
            logger.warning(describe_cut_off(num_cut_off, len(episodes), limits.max_steps))
        results = {**metadata, **(provenance or {}), **summarize(episodes), "episodes": episodes}
        if comm.rank == 0:
            with _convert_write_errors(folder):
                write_bytes(folder / "results.json", json.dumps(results, indent=2).encode())
        return results
    finally:  # close() may hang: it comes last
        if watchdog:
            watchdog.limit_closing(int(sys.exc_info()[0] is not None))
        close_env(env)


def summarize(episodes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the statistics of an evaluation's episodes."""
    returns = summarize_returns([episode["return"] for episode in episodes])
    length_mean = statistics.fmean(episode["length"] for episode in episodes)
    return {f"return_{name}": value for name, value in returns.items()} | {"length_mean": length_mean}


def describe_episodes(config: EvalConfig, seed: int, *, is_run_seed: bool, stochastic: bool) -> str:
    """Return a message that says which episodes an evaluation runs, with which actions."""
    actions = "sampled" if stochastic else "deterministic"
    is_same = is_run_seed and config.episode_seeds == "training"
    episodes = "the episodes" if is_same else "new episodes, not those"
    return f"{actions} actions on {episodes} of the evaluations during training (seed {seed})"


@contextlib.contextmanager
def _convert_write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror or error}") from None


def _progress_bar(comm: Comm) -> Progress:
    """Return a progress bar of rank 0's episode, disabled if stdout is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
    hidden = comm.rank != 0 or is_quiet() or not sys.stdout.isatty()
    return Progress(*columns, console=Console(), transient=True, disable=hidden)  # rich caches its first Console


def render_first_frame(env: gymnasium.Env[Any, Any], seed: int) -> None:
    """Reset an environment and render a frame, before an episode is recorded.

    Raises:
        UserError: if it cannot be rendered on this machine, or ``render()`` returns no image.
    """
    try:
        env.reset(seed=seed)
        picture = env.render()
    except Exception as error:  # without EGL and OSMesa, MuJoCo raises various types
        if not is_provided(env) and not hasattr(env.unwrapped, "mujoco_renderer"):
            raise UserError(f"cannot record: render() failed: {describe_exception(error)}") from None
        raise make_render_error(error) from None
    try:
        to_frame(picture)
    except RunError as error:
        raise UserError(f"cannot record: {error}") from None


def _record_episode(
    agent: Agent,
    env: gymnasium.Env[Any, Any],
    seed: int,
    path: Path,
    advance: Callable[[], None],
    limits: Limits,
    *,
    stochastic: bool,
) -> demos.Episode:
    render_first_frame(env, seed)
    with write_video(path, read_fps(env.metadata, getattr(env.unwrapped, "dt", None))) as add:

        def add_frame() -> None:
            try:
                picture = env.render()
            except Exception as error:  # environments raise arbitrary exceptions
                raise RunError(f"render() failed: {describe_exception(error)}") from None
            add(picture)
            advance()

        return run_episode(agent, env, seed, add_frame, limits, stochastic=stochastic)
