"""The training loop of all algorithms."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from milozero.agents.episodes import INTERRUPTED, EpisodeLog, EpisodeStats
from milozero.agents.rollout import Rollout, rollout_generator
from milozero.evaluation.episodes import summarize_returns
from milozero.experiment.hardware import use_one_thread
from milozero.experiment.launch import Launch
from milozero.experiment.settings import Settings
from milozero.helpers.errors import NonFiniteError, RunError
from milozero.helpers.logging import log_result, logger
from milozero.training.build import build_run
from milozero.training.checks import budget_exhausted, check_param_sync, dump_nonfinite, throughput
from milozero.training.run import Training
from milozero.training.summary import write_summary

NAN = float("nan")


def train(settings: Settings, launch: Launch) -> None:
    """Train an agent, or resume training it.

    Raises:
        UserError: if the settings or their inputs are invalid; nothing has been written then.
        RunError: if the run fails; its last checkpoint is kept.
    """
    use_one_thread()
    with contextlib.ExitStack() as envs:  # closes them even if the run fails
        run = build_run(settings, launch, envs)
        if run is None:
            return
        try:
            state, reason = run_training(run)
            run.finish_recording()
        except BaseException:
            run.watchdog.limit_closing(exit_code=1)
            raise
        finally:
            run.tracker.close()
        run.watchdog.disarm()
        if run.comm.rank == 0:
            result, *lines = write_summary(run, state, reason)
            log_result(result)
            for line in lines:
                logger.info(line)
        run.watchdog.limit_closing(exit_code=0)


def run_training(run: Training) -> tuple[str, str]:
    """Train, and write the final state to status.json.

    Returns:
        The state, ``finished`` or ``stopped``, and the reason.

    Raises:
        RunError: if a value is NaN or infinite, parameters diverge, or the last checkpoint cannot be written.
    """
    if run.comm.rank == 0:
        run.status.write("running", "")
    try:
        state, reason = iterate(run)
    except NonFiniteError as error:
        message = dump_nonfinite(run, error)
        run.status.write("failed", message)
        raise RunError(message, everywhere=error.everywhere) from None
    except BaseException as error:
        run.status.write("failed", f"worker {run.comm.rank}: {type(error).__name__}: {error}")
        raise
    if run.comm.rank == 0:
        run.status.learned = bool(run.agent.early_stop())
        run.status.write(state, reason)
    return state, reason


def iterate(run: Training) -> tuple[str, str]:
    """Iterate until the budget of steps, iterations or time is exhausted, or a signal arrives.

    Returns:
        The state, ``finished`` or ``stopped``, and the reason.

    Raises:
        RunError: if parameters diverge between workers, or the last checkpoint cannot be written.
    """
    config, counters, comm = run.experiment.settings.train, run.counters, run.comm
    finished, stopped = budget_exhausted(counters, config) or run.agent.early_stop(), ""
    run.start_time = time.monotonic() - counters.seconds
    if run.unevaluated:  # the run was interrupted while it evaluated
        stopped = end_iteration(run, run.unevaluated, finished, stopped)
    if not finished and not stopped:
        stopped = start_envs(run)
        run.start_time = time.monotonic() - counters.seconds
    rollouts = make_rollouts(run)
    while not finished and not stopped:
        run.watchdog.start_iteration(counters.iteration + 1)
        metrics = do_iteration(rollouts, run)
        if config.sync_check_frequency and counters.iteration % config.sync_check_frequency == 0:
            check_param_sync(run.agent, comm)
        finished = budget_exhausted(counters, config) or run.agent.early_stop()
        stopped = end_iteration(run, metrics, finished, run.watchdog.agree_to_stop())
    if stopped and config.eval_episodes and not run.unevaluated and not math.isfinite(counters.best_eval_return):
        run.evaluate()  # after saving, for best.pt; a resumed run ignores this evaluation
    check_param_sync(run.agent, comm)
    if run.save_error:
        raise RunError(f"the last {run.save_error}", everywhere=True)
    return ("finished", finished) if finished and not run.unevaluated else ("stopped", stopped)


def start_envs(run: Training) -> str:
    """Reset this worker's environments; in a resumed run, restore them to their current episodes (collective).

    A run that is stopped meanwhile saves nothing, because its checkpoint is still valid.

    Returns:
        Why to stop; empty if the run continues.
    """
    iteration, first_env = run.counters.iteration, run.comm.rank * run.env.num_envs

    def should_stop() -> bool:
        run.watchdog.start_iteration(iteration + 1)  # its timeout is for one step
        return run.watchdog.should_interrupt()

    problem = run.episodes.start_envs(run.env, run.experiment.seed, first_env, should_stop)
    problems = list(filter(None, run.comm.allgather(problem)))
    if not problems:
        return ""
    if INTERRUPTED in problems:
        return run.watchdog.agree_to_stop() or "execution_time used up"
    if run.comm.rank == 0:
        logger.warning(
            f"not bit-exact: new episodes start, because {problems[0]} (another machine or version, or environments "
            "that do not depend only on seed and actions)"
        )
    if problem:
        run.episodes = EpisodeLog(run.env.num_envs, iteration)
        run.episodes.start_envs(run.env, run.experiment.seed, first_env, should_stop)
        run.break_episodes()
    return ""


def make_rollouts(run: Training) -> Iterator[Rollout]:
    """Return this worker's rollouts, whose environments have been started."""
    return rollout_generator(
        run.env,
        run.agent,
        update_interval(run),
        run.experiment.seed,
        run.comm.rank * run.env.num_envs,
        number=run.counters.iteration * (run.experiment.settings.train.rollout_len // update_interval(run)),
        episodes=run.episodes,
    )


def update_interval(run: Training) -> int:
    """Return the steps of a worker per rollout: a part of ``--rollout_len`` if the agent updates more often."""
    settings = run.experiment.settings
    interval: int = settings.agent.update_interval(settings.train.rollout_len)
    return interval


def end_iteration(run: Training, metrics: dict[str, float], finished: str, stopped: str) -> str:
    """Evaluate, save and record the agent if due, and log the metrics (collective).

    If the evaluation is interrupted, the resumed run evaluates and logs this iteration again.

    Returns:
        Why to stop: `stopped`, or what interrupted the evaluation; empty if the run continues.
    """
    config, counters = run.experiment.settings.train, run.counters
    counters.seconds = time.monotonic() - run.start_time
    due = is_evaluation_due(run, is_last=bool(finished))
    if due and not run.unevaluated:
        run.unevaluated = metrics
        run.save(only_last=True)
    returns = run.evaluate() if due else []
    if returns is None:
        stopped = stopped or run.watchdog.agree_to_stop()
    else:
        run.unevaluated = {}
    counters.seconds = time.monotonic() - run.start_time
    metrics = metrics | evaluation_metrics(returns or [], counters.best_eval_return)
    metrics |= throughput(counters, config, run.watchdog.remaining_seconds(), run.pace)
    run.tracker.log(metrics, counters.timesteps)
    if counters.iteration % config.save_frequency == 0 or finished or stopped:
        run.save()
    elif counters.iteration == 1:  # so that a run that is killed early can be resumed
        run.save(only_last=True)
    if not stopped:
        run.record(is_last=bool(finished))
    return stopped


def evaluation_metrics(returns: Sequence[float], best: float) -> dict[str, float]:
    """Return the metrics of an evaluation, from the returns of its episodes; NaN if there are none."""
    summary = {f"eval_return_{name}": value for name, value in summarize_returns(returns).items()}
    mean = summary.pop("eval_return_mean")
    return {"eval_return": mean} | summary | {"best_eval_return": best if math.isfinite(best) else NAN}


def is_evaluation_due(run: Training, *, is_last: bool) -> bool:
    """Return whether to evaluate: every ``--eval_frequency`` iterations if there is an `eval_env`, and at the end."""
    config = run.experiment.settings.train
    at_interval = config.eval_frequency > 0 and run.counters.iteration % config.eval_frequency == 0
    at_interval &= run.eval_env is not None
    return config.eval_episodes > 0 and (is_last or at_interval)


def do_iteration(rollouts: Iterator[Rollout], run: Training) -> dict[str, float]:
    """Collect ``--rollout_len`` steps on each worker, update the agent with them, and return the metrics.

    Most agents are updated once, with a single rollout.
    """
    config, counters = run.experiment.settings.train, run.counters
    updates: list[dict[str, float]] = []
    own_episodes: list[EpisodeStats] = []
    for index, rollout in enumerate(itertools.islice(rollouts, config.rollout_len // update_interval(run))):
        updates.append(run.agent.update(rollout, counters.progress(config)))
        counters.timesteps += rollout.rewards.size * run.comm.size
        start = index * len(rollout.rewards)
        own_episodes += [dataclasses.replace(episode, end=start + episode.end) for episode in rollout.episodes]
    counters.iteration += 1
    episodes = [episode for part in run.comm.allgather(own_episodes) for episode in part]
    counters.episodes += len(episodes)
    run.recent_episodes.extend(sorted(episodes, key=lambda episode: episode.end))
    return {
        "iteration": counters.iteration,
        "timesteps": counters.timesteps,
        "episodes": counters.episodes,
        "progress": counters.progress(config),
        **episode_metrics(episodes, run.recent_episodes),
        **merge_metrics(updates),
    }


def merge_metrics(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the metrics of the updates of one iteration: the mean over the updates that have a value."""
    if len(updates) == 1:
        return dict(updates[0])
    values = {name: [each[name] for each in updates if not math.isnan(each[name])] for name in updates[0]}
    return {name: statistics.fmean(each) if each else NAN for name, each in values.items()}


def episode_metrics(episodes: Collection[EpisodeStats], recent: Collection[EpisodeStats]) -> dict[str, float]:
    """Return the metrics of the training `episodes` of an iteration, and rolling means over the `recent` ones."""
    returns = [episode.return_ for episode in episodes]
    return {
        "return_mean": statistics.fmean(returns) if returns else NAN,
        "return_min": min(returns, default=NAN),
        "return_max": max(returns, default=NAN),
        "length_mean": statistics.fmean(e.length for e in episodes) if episodes else NAN,
        "return_mean_100": statistics.fmean(e.return_ for e in recent) if recent else NAN,
        "length_mean_100": statistics.fmean(e.length for e in recent) if recent else NAN,
    }
