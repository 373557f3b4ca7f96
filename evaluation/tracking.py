"""Log evaluations to Weights & Biases."""

from __future__ import annotations

import dataclasses
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milozero.tracking.metrics import EVALUATION_METRICS
from milozero.tracking.wandb import WandbTracker

if TYPE_CHECKING:
    from milozero.experiment.settings import Settings


def track_evaluation(settings: Settings, name: str, results: dict[str, Any], folder: Path) -> WandbTracker | None:
    """Log an evaluation to ``--wandb_project`` if it is set, with its videos and ``results.json``.

    Returns:
        The closed tracker, which may still upload.
    """
    if not settings.tracking.wandb_project:
        return None
    tracker = WandbTracker(
        settings.tracking,
        Path(settings.common.data_dir),
        run_id=secrets.token_hex(4),  # a new run, even if WANDB_RUN_ID names one
        files=[folder / "results.json"],
        name=f"eval.{name}",
        group="eval",
        config=dataclasses.asdict(settings.evaluation)
        | {key: results[key] for key in ("env_id", "eval_stochastic")}
        | {"experiment": name},
    )
    tracker.log({key: results[key] for key in EVALUATION_METRICS}, 0)
    for video in sorted(folder.glob("*.mp4")):
        tracker.log_video(video.stem, video)
    tracker.close()
    return tracker
