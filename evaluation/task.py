"""``--task=eval``: evaluate a checkpoint, and render or record it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import secrets
import signal
import threading
from pathlib import Path
from typing import Any

from milozero import environments
from milozero.evaluation import downloads
from milozero.evaluation.evaluate import evaluate_checkpoint
from milozero.evaluation.loading import load_agent
from milozero.evaluation.video import choose_renderer
from milozero.experiment import checkpoint
from milozero.experiment.hardware import select_device, use_one_thread
from milozero.experiment.launch import Launch
from milozero.experiment.settings import Settings
from milozero.experiment.watchdog import SIGNALS
from milozero.helpers.comm import Comm
from milozero.helpers.config.values import from_kwargs
from milozero.helpers.errors import NonFiniteError, RunError, UserError
from milozero.helpers.logging import logger, pluralize
from milozero.tracking.metrics import EVALUATION_METRICS
from milozero.tracking.wandb import WandbTracker


def download_checkpoint(settings: Settings, comm: Comm) -> str:
    """Download the checkpoint on rank 0 and return its folder (collective).

    Raises:
        UserError: if the download fails.
    """
    config, folder, problem = settings.evaluation, "", ""
    if comm.rank == 0:
        data = Path(settings.common.data_dir)
        try:
            replace = config.wandb_download_replace
            folder = str(downloads.download_checkpoint(config.wandb_run_path, config.iter_num, data, replace=replace))
        except UserError as error:
            problem = str(error)
    folder, problem = comm.broadcast((folder, problem))
    if problem:
        raise UserError(problem)
    return folder


def evaluate(settings: Settings, launch: Launch) -> None:
    """Evaluate a checkpoint, which determines the algorithm, the environment and the networks.

    Raises:
        UserError: if the checkpoint cannot be used.
        RunError: if a value is NaN or infinite.
    """
    use_one_thread()
    config, comm = settings.evaluation, launch.comm
    if config.render or config.record:
        choose_renderer()
    path = checkpoint.find(config.model_path or download_checkpoint(settings, comm), config.iter_num)

    rendered = config.render or config.record
    loaded = load_agent(path, settings.common.env_kwargs, select_device(settings, comm), rendered=rendered)
    trained, env_id = loaded.settings, loaded.env_id
    seed = (trained if settings.common.seed is None else settings).common.seed or 0
    name = trained.train.uuid
    folder = Path(settings.common.data_dir) / "evaluations" / name / path.stem
    if comm.rank == 0:
        logger.info(f"{path}: {trained.train.algo} on {env_id}, iteration {loaded.iteration}")
        if config.render and not os.environ.get("DISPLAY"):
            logger.info("no display: --render records videos")
    make = functools.partial(environments.make_env, env_id, kwargs=loaded.env_kwargs)
    metadata = {"env_id": env_id, "env_kwargs": from_kwargs(loaded.env_kwargs)}
    try:
        results = evaluate_checkpoint(loaded.agent, make, config, seed, folder, metadata, comm)
    except NonFiniteError as error:
        raise RunError(f"{env_id}, worker {comm.rank}: {error}") from None
    if comm.rank == 0:
        mean, std = results["return_mean"], results["return_std"]
        episodes = pluralize(config.num_trajs, "episode")
        logger.info(f"return {mean:.2f} ± {std:.2f} over {episodes}, length {results['length_mean']:.0f}")
        for kind, pattern in (("videos", "*.mp4"), ("trajectories", "*.h5"), ("results", "*.json")):
            if any(folder.glob(pattern)):
                logger.info(f"{kind + ':':14}{folder}/{pattern}")
        track_evaluation(settings, name, results, folder, launch.cleanup)


def track_evaluation(
    settings: Settings, name: str, results: dict[str, Any], folder: Path, cleanup: contextlib.ExitStack
) -> None:
    """Log an evaluation to ``--wandb_project`` if it is set, with its videos and ``results.json``."""
    tracking = settings.tracking
    if not tracking.wandb_project:
        return

    tracker = WandbTracker(
        project=tracking.wandb_project,
        entity=tracking.wandb_entity,
        name=f"eval.{name}",
        group="eval",
        config=dataclasses.asdict(settings.evaluation) | {"env_id": results["env_id"], "experiment": name},
        data=Path(settings.common.data_dir),
        run_id=secrets.token_hex(4),  # a new run, even if WANDB_RUN_ID names one
        files=[folder / "results.json"],
    )
    tracker.log({key: results[key] for key in EVALUATION_METRICS}, 0)
    for video in sorted(folder.glob("*.mp4")):
        tracker.log_video(video.stem, video)
    tracker.close()
    interrupted = threading.Event()
    for number in SIGNALS:
        signal.signal(number, lambda *_: interrupted.set())
    cleanup.callback(lambda: tracker.wait(math.inf, interrupted.is_set))
