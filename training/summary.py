"""Messages at the start and at the end of a training run."""

from __future__ import annotations

import math

from milozero.evaluation.episodes import choose_max_steps
from milozero.helpers.config.values import to_seconds
from milozero.helpers.errors import one_line
from milozero.helpers.logging import ALWAYS_PRINTED, format_duration, logger, pluralize
from milozero.tracking.plots import plot_learning_curve
from milozero.training.run import Training


def log_header(run: Training, num_demos: int) -> None:
    """Log what is trained and how."""
    experiment = run.experiment
    train, checkpoint = experiment.settings.train, experiment.checkpoint
    for warning in experiment.warnings:
        logger.warning(warning)
    workers = pluralize(run.comm.size, "worker")
    logger.info(f"experiment {experiment.name}: {train.algo} on {experiment.env_id}, {workers}")
    if run.init_summary:
        logger.info(run.init_summary)
    if duration := experiment.settings.common.execution_time:
        logger.info(f"stops after {format_duration(to_seconds(duration))} (--execution_time={duration})")
    if run.comm.local_cores < run.comm.local_size:
        cores = pluralize(run.comm.local_cores, "core")
        logger.warning(f"{run.comm.local_size} workers share {cores}: more workers than cores do not train faster")
    if checkpoint:
        differences = experiment.find_differences(checkpoint)
        exactness = f"not bit-exact: {', '.join(differences)}" if differences else "bit-exact"
        logger.info(f"resuming after iteration {run.counters.iteration}, {exactness}")
        if steps := run.episodes.num_steps_to_repeat():
            logger.info(f"restoring the environments: {pluralize(steps, 'step')} of their current episodes")
    if run.compiled:
        logger.info("compiling the update, which takes 10–30 s the first time (--no-compile disables it)")
    if num_demos:
        logger.info(f"demonstrations: {num_demos}")
    if run.expert_return is not None:
        logger.info(f"expert return (target): {run.expert_return:.1f}")
    for line in experiment.settings.describe_unused():
        logger.info(line)
    if run.eval_env is None and train.eval_episodes:
        logger.info(
            f"warning: only one {experiment.env_id} can exist at a time: the run is evaluated only at its end",
            extra=ALWAYS_PRINTED,
        )
    if problem := run.recorder.check():
        logger.warning(f"--record_frequency={train.record_frequency} records no videos: {problem}")
    limit = run.env.time_limit
    if not limit and train.eval_episodes:
        max_steps = choose_max_steps(experiment.settings.common.eval_max_steps, limit)
        logger.info(
            f"warning: {experiment.env_id} has no time limit: evaluations cut off episodes after "
            f"{max_steps:,.0f} steps (--eval_max_steps)",
            extra=ALWAYS_PRINTED,
        )
    if run.env.max_steps:
        logger.info(
            f"warning: training truncates episodes of {experiment.env_id} after {run.env.max_steps:,} steps, because "
            "a resumed run repeats them",
            extra=ALWAYS_PRINTED,
        )


def write_summary(run: Training, state: str, reason: str) -> list[str]:
    """Draw the learning curve and return the summary, line by line (on rank 0)."""
    experiment, counters = run.experiment, run.counters
    iterations = pluralize(counters.iteration, "iteration")
    picture = experiment.logs / "learning_curve.png"
    lines = [
        f"{state}: {reason} after {iterations}, {counters.timesteps:,} steps, {counters.seconds:.0f} s",
        f"checkpoints:       {experiment.checkpoints}",
        f"logs:              {experiment.logs}",
    ]
    if math.isfinite(counters.best_eval_return):
        last, best = counters.last_eval_return, counters.best_eval_return
        expert = f", expert {run.expert_return:.1f}" if run.expert_return is not None else ""
        lines.insert(1, f"evaluation return: last {last:.1f}, best {best:.1f}{expert}")
    try:
        title = f"{experiment.settings.train.algo} on {experiment.env_id}: {experiment.name}"
        axis = "iteration" if experiment.settings.agent.learns_offline() else "timesteps"
        plot_learning_curve(experiment.logs / "progress.csv", picture, title, run.expert_return, axis)
        lines.append(f"learning curve:    {picture}")
    except Exception as error:  # a run that has finished must not fail because of its picture
        logger.warning(one_line(f"cannot draw {picture}: {type(error).__name__}: {error}"))
    if state == "stopped":
        lines.append(f"to resume:         the same command with --resume --uuid={experiment.name}")
    return lines
