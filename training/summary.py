"""What a training run prints at its start and at its end."""

from __future__ import annotations

import math

from milozero.helpers.config.params import to_kwargs
from milozero.helpers.logging import logger
from milozero.tracking.plots import learning_curve
from milozero.training.checks import warn_if_truncated
from milozero.training.run import Training


def log_header(run: Training, num_demos: int) -> None:
    """Log what is about to be trained."""
    experiment, workers = run.experiment, run.comm.size
    train, checkpoint = experiment.settings.train, experiment.checkpoint
    for note in experiment.warnings:
        logger.warning(note)
    logger.info(f"experiment {experiment.name}: {train.algo} on {experiment.env_id}, {workers} worker(s)")
    if checkpoint:
        other = experiment.differences(checkpoint, workers)
        exact = f"not bit for bit, as now: {', '.join(other)}" if other else "as if it had never stopped"
        logger.info(f"resumed after iteration {run.counters.iteration}, {exact}")
        if run.replay_log.actions:
            logger.info(f"replaying {len(run.replay_log.actions)} iterations to restore the environments")
    if run.compiled:
        logger.info("compiling the update, 10–30 s the first time (--no-compile to go without)")
    if num_demos:
        logger.info(f"demonstrations: {num_demos}, mean return {run.expert_return:.1f}: the line to reach")
    elif run.expert_return is not None:
        logger.info(f"the expert's evaluation: {run.expert_return:.1f}: the line to reach")
    for note in experiment.settings.unused():
        logger.info(note)
    limit = run.eval_env.spec.max_episode_steps if run.eval_env.spec else None
    if note := warn_if_truncated(train, to_kwargs(experiment.settings.common.env_kwargs), limit):
        logger.warning(note)


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
