"""MiloZero's command line: ``--task=train``, ``eval`` plays a checkpoint, ``list_envs`` says on what.

``--task=demos`` says what experts did, and ``--task=report`` shows what came of it all.

The line to follow: parse → ExperimentInitializer → environments → agent → orchestrator.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from milozero.experiment.hardware import select_device, should_compile, use_one_thread
from milozero.experiment.initializer import ExperimentInitializer
from milozero.experiment.settings import parse
from milozero.experiment.watchdog import SIGNALS, Watchdog, catch_early_signals, restore_signals
from milozero.helpers.comm import Comm, finalize, launched_rank, launched_size, make_comm
from milozero.helpers.config.params import from_kwargs, to_kwargs, to_seconds
from milozero.helpers.errors import NonFiniteError, RunError, UserError
from milozero.helpers.logging import flush_stdio, log_to_terminal, logger, pluralize
from milozero.tracking.tracker import BACKGROUND

if TYPE_CHECKING:
    from milozero.demonstrations.dataset import Episode
    from milozero.experiment.settings import Settings
    from milozero.orchestrator import Training
    from milozero.tracking.tracker import Tracker

LAUNCHED = time.monotonic()  # as near to the start of this process as Python comes
WANDB_EXIT_TIMEOUT_S = 20.0  # seconds that a stopped run waits for Weights & Biases
# Seconds until a worker that cannot go on ends the job for all: what it alone came to must not leave the others
# waiting. Where all have come to it, the first worker may have more to do, and then ends the job itself.
SOLO_ABORT_DELAY_S, COMMON_ABORT_DELAY_S = 2.0, 300.0


def make_tracker(experiment: ExperimentInitializer, comm: Comm, iteration: int) -> Tracker:
    """Return rank 0's trackers; the other ranks track nothing."""
    from milozero.tracking.tracker import Trackers

    if comm.rank != 0:
        return Trackers()
    from milozero.tracking.console import ConsoleTracker
    from milozero.tracking.csv import CSVTracker

    trackers: list[Tracker] = [
        CSVTracker(experiment.logs / "progress.csv", iteration),
        ConsoleTracker(experiment.name),
    ]
    tracking = experiment.settings.tracking
    if tracking.tensorboard:
        from milozero.agents.registry import get_metrics
        from milozero.tracking.tensorboard import TensorBoardTracker

        groups = {name: metric.group for name, metric in get_metrics(experiment.settings.train.algo).items()}
        progress = experiment.logs / "progress.csv"  # which the CSV tracker has brought to `iteration`
        trackers.append(TensorBoardTracker(experiment.logs / "tensorboard", progress, groups))
    if tracking.wandb_project:
        from milozero.tracking.wandb import WandbTracker

        trackers.append(
            WandbTracker(
                project=tracking.wandb_project,
                entity=tracking.wandb_entity,
                name=experiment.name,
                group=experiment.group,
                config=experiment.metadata(comm.size),
                data=Path(experiment.settings.common.data_dir),
                run_id=experiment.run_id,
                files=[experiment.checkpoints / name for name in ("best.pt", "last.pt", "config.yaml")],
            ),
        )
    return Trackers(trackers)


@dataclasses.dataclass(frozen=True)
class Launch:
    """What a task runs with."""

    comm: Comm
    cleanup: contextlib.ExitStack  # what to close, and what to wait for, at the end of the run
    began: float  # a ``time.monotonic()`` reading: the time limit counts from it


def train(settings: Settings, launch: Launch) -> None:
    """Train an agent, or go on training it.

    Raises:
        UserError: for what the user can put right, before anything is written.
        RunError: where the run did not end as it should; what it had saved is there.
    """
    use_one_thread()
    from milozero import environments, orchestrator
    from milozero.agents.base import AgentContext
    from milozero.demonstrations import dataset as demos
    from milozero.evaluation import loading as players
    from milozero.experiment.status import Counters, Status

    comm, cleanup = launch.comm, launch.cleanup
    experiment = cleanup.enter_context(ExperimentInitializer(settings, comm))
    settings, checkpoint = experiment.settings, experiment.checkpoint
    if settings.tracking.tensorboard:
        from milozero.tracking.tensorboard import check_installed

        check_installed()
    env_id = environments.resolve(settings.train.env_id)
    imitation = settings.imitation
    expert = demos.read_demos(imitation.expert_path, imitation.num_demos) if imitation.expert_path else []
    device = select_device(settings, comm)
    before = checkpoint["config"].get("compiled") if checkpoint else None
    before = before if isinstance(before, bool) else None
    mine = should_compile(settings, comm.size, device, before, sum(map(len, expert)))
    compile = all(comm.allgather(mine))  # where one cannot, nobody does
    env_kwargs = to_kwargs(settings.common.env_kwargs)
    eval_env = environments.make_env(env_id, None, env_kwargs)
    env = environments.make_vector_env(env_id, settings.train.num_envs, env_kwargs)
    if expert:
        demos.check_compatible(expert, imitation.expert_path, env.observation_size, env.action_space)
    asked, expert_return = players.load_expert(settings, env, device)
    if expert:
        expert_return = float(sum(e.return_ for e in expert) / len(expert))

    context = AgentContext(
        comm,
        seed=experiment.seed,
        iteration=checkpoint["counters"]["iteration"] if checkpoint else 0,
        num_envs=env.num_envs,
        device=device,
        compile=compile,
        demos=expert,
        imitation=imitation,
        expert=asked,
        reward=players.load_reward(settings, env, device),
    )
    agent = players.make_agent(settings, env, env.observation_size, context)
    metadata = {"compiled": compile, "device": device.partition(":")[0]}
    if agent.LEARNS_FROM_DEMOS:
        metadata["demonstrations"] = demos.checksum(expert)
    teachers = {"expert": context.expert, "reward": context.reward}
    metadata |= {name: f"{teacher.parameter_hash():x}" for name, teacher in teachers.items() if teacher is not None}
    experiment.create(env_id, metadata, {} if expert_return is None else {"expert_return": expert_return})
    counters = Counters()
    status = Status(experiment.logs, counters)
    run = orchestrator.Training(experiment, agent, comm, eval_env, counters, status, expert_return)
    if checkpoint:
        run.restore(checkpoint, env)
    if comm.rank == 0:
        log_header(run, expert, compile)
    try:
        run.tracker = make_tracker(experiment, comm, counters.iteration)
    except OSError as error:
        raise UserError(f"cannot write to {experiment.logs}: {error.strerror}") from None
    limits = (to_seconds(settings.train.execution_time), to_seconds(settings.train.watchdog) or math.inf)
    run.watchdog = Watchdog(comm, status, launch.began, *limits)
    run.watchdog.start()
    cleanup.callback(run.watchdog.close)
    # For a network, perhaps, and so when all is said; whoever stops a run has less patience.
    cleanup.callback(
        lambda: run.tracker.wait(
            WANDB_EXIT_TIMEOUT_S if run.watchdog.should_exit_soon() else math.inf, lambda: run.watchdog.interrupted
        )
    )
    try:
        state, reason = orchestrator.run_training(run, env)
    finally:
        run.watchdog.rest()
        run.tracker.close()
    env.close()
    eval_env.close()
    if comm.rank == 0:
        for line in orchestrator.write_summary(run, state, reason):
            logger.info(line)


def log_header(run: Training, expert: list[Episode], compile: bool) -> None:
    """Say what begins."""
    from milozero.orchestrator import warn_if_truncated

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
    if compile:
        logger.info("compiling the update, 10–30 s the first time (--no-compile to go without)")
    if expert:
        logger.info(f"demonstrations: {len(expert)}, mean return {run.expert_return:.1f}: the line to reach")
    elif run.expert_return is not None:
        logger.info(f"the expert's evaluation: {run.expert_return:.1f}: the line to reach")
    for note in experiment.settings.unused():
        logger.info(note)
    limit = run.eval_env.spec.max_episode_steps if run.eval_env.spec else None
    if note := warn_if_truncated(train, to_kwargs(experiment.settings.common.env_kwargs), limit):
        logger.warning(note)


def downloaded(settings: Settings, comm: Comm) -> str:
    """Return the folder into which rank 0 has downloaded the checkpoint (collective).

    Raises:
        UserError: where it cannot be had.
    """
    from milozero.evaluation import downloads

    config, found, problem = settings.evaluation, "", ""
    if comm.rank == 0:
        data = Path(settings.common.data_dir)
        try:
            replace = config.wandb_download_replace
            found = str(downloads.fetch(config.wandb_run_path, config.iter_num, data, replace=replace))
        except UserError as error:
            problem = str(error)
    found, problem = comm.broadcast((found, problem))
    if problem:
        raise UserError(problem)
    return found


def evaluate(settings: Settings, launch: Launch) -> None:
    """Play a checkpoint; algorithm, environment and networks come from it.

    Raises:
        UserError: where the checkpoint cannot be used.
    """
    use_one_thread()
    from milozero.evaluation.video import choose_renderer
    from milozero.experiment import checkpoint

    config, comm = settings.evaluation, launch.comm
    if config.render or config.record:
        choose_renderer()
    path = checkpoint.find(config.model_path or downloaded(settings, comm), config.iter_num)
    from milozero import environments
    from milozero.evaluation import evaluate as playing
    from milozero.evaluation import loading as players

    rendered = config.render or config.record
    loaded = players.load_agent(path, settings.common.env_kwargs, select_device(settings, comm), rendered=rendered)
    trained, env_id = loaded.settings, loaded.env_id
    seed = (trained if settings.common.seed is None else settings).common.seed or 0
    name = trained.train.uuid
    folder = Path(settings.common.data_dir) / "evaluations" / name / path.stem
    if comm.rank == 0:
        logger.info(f"{path}: {trained.train.algo} on {env_id}, iteration {loaded.iteration}")
        if config.render and not os.environ.get("DISPLAY"):
            logger.info("there is no display: --render writes videos")
    make = functools.partial(environments.make_env, env_id, kwargs=loaded.env_kwargs)
    metadata = {"env_id": env_id, "env_kwargs": from_kwargs(loaded.env_kwargs)}
    try:
        results = playing.evaluate_checkpoint(loaded.agent, make, config, seed, folder, metadata, comm)
    except NonFiniteError as error:
        raise RunError(f"{env_id}, worker {comm.rank}: {error}") from None
    if comm.rank == 0:
        mean, std = results["return_mean"], results["return_std"]
        played = pluralize(config.num_trajs, "episode")
        logger.info(f"return {mean:.2f} ± {std:.2f} over {played}, length {results['length_mean']:.0f}")
        for kind, pattern in (("videos", "*.mp4"), ("trajectories", "*.h5"), ("results", "*.json")):
            if any(folder.glob(pattern)):
                logger.info(f"{kind + ':':14}{folder}/{pattern}")
        track_evaluation(settings, name, results, folder, launch.cleanup)


def track_evaluation(
    settings: Settings, name: str, results: dict[str, Any], folder: Path, cleanup: contextlib.ExitStack
) -> None:
    """Log an evaluation, with its videos and ``results.json``, to ``--wandb_project``, where one is named."""
    tracking = settings.tracking
    if not tracking.wandb_project:
        return
    from milozero.tracking.metrics import EVALUATION_METRICS
    from milozero.tracking.wandb import WandbTracker

    tracker = WandbTracker(
        project=tracking.wandb_project,
        entity=tracking.wandb_entity,
        name=f"eval.{name}",
        group="eval",
        config=dataclasses.asdict(settings.evaluation) | {"env_id": results["env_id"], "experiment": name},
        data=Path(settings.common.data_dir),
        run_id=secrets.token_hex(4),  # whatever run the environment names: this is none of training
        files=[folder / "results.json"],
    )
    tracker.log({key: results[key] for key in EVALUATION_METRICS}, 0)
    for video in sorted(folder.glob("*.mp4")):
        tracker.show(video.stem, video)
    tracker.close()
    interrupted = threading.Event()
    for number in SIGNALS:
        signal.signal(number, lambda *_: interrupted.set())
    cleanup.callback(lambda: tracker.wait(over=interrupted.is_set))


def list_envs(settings: Settings, launch: Launch) -> None:
    """Print the families of environments, what is in them, what of it can be used here, and the bundles."""
    if launch.comm.rank == 0:
        from milozero.environments import listing

        listing.show(settings.listing.only)


def show_demos(settings: Settings, launch: Launch) -> None:
    """Print what demonstrations there are.

    Raises:
        UserError: where they cannot be used.
    """
    if launch.comm.rank == 0:
        from milozero.demonstrations import table

        table.show(settings.imitation)


def report(settings: Settings, launch: Launch) -> None:
    """Write what became of a study's runs, from their logs: a page, a picture or a table.

    Raises:
        UserError: where there are no such runs, or the file cannot be written.
    """
    if launch.comm.rank == 0:
        from milozero.reports import report

        report.write(settings.report, Path(settings.common.data_dir))


TASKS = {"train": train, "eval": evaluate, "list_envs": list_envs, "demos": show_demos, "report": report}


def run(argv: list[str], began: float) -> int:
    """Run one task; return the exit code: 0 done, 1 failed, 2 for what the user can put right.

    Args:
        argv: the arguments.
        began: when this launch began, a ``time.monotonic()`` reading.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # one thread a worker: workers are the parallel unit
    catch_early_signals()
    comm = Comm()
    with contextlib.ExitStack() as cleanup:
        try:
            settings = parse(argv)
            comm = make_comm(settings.common.num_workers)
            TASKS[settings.common.task](settings, Launch(comm, cleanup, began))
        except (UserError, RunError) as error:
            # Mostly every worker comes to the same; one of them says it.
            code = 2 if isinstance(error, UserError) else 1
            everywhere = isinstance(error, RunError) and error.everywhere
            if comm.rank > 0:
                time.sleep(COMMON_ABORT_DELAY_S if everywhere else SOLO_ABORT_DELAY_S)
            if launched_rank() == 0 or comm.rank > 0:
                logger.error(str(error))
            if comm.size == 1 or everywhere:
                cleanup.close()
            if comm.size > 1:
                comm.abort(code)
            return code
        except BaseException as error:
            if isinstance(error, SystemExit):
                raise
            logger.error(f"worker {comm.rank} of {launched_size()} failed: {error}", exc_info=True)
            code = 130 if isinstance(error, KeyboardInterrupt) else 1
            if comm.size > 1:
                comm.abort(code)
            return code
    return 0


def main(argv: list[str]) -> int:
    """Run one task and return its exit code; may be called repeatedly in one process.

    It leaves signal handlers, logging and the experiment's lock as it found them.
    """
    with restore_signals(), log_to_terminal():
        return run(argv, time.monotonic())


def leave(code: int) -> NoReturn:
    """End the program; at once where a thread is stuck that Python's own exit would wait for."""
    flush_stdio()
    if any(thread.name == BACKGROUND for thread in threading.enumerate()):
        finalize()
        os._exit(code)
    sys.exit(code)


def cli() -> NoReturn:
    """Run the command line as a program: ``python main.py``, or ``milozero`` where it is installed."""
    # Not main(): a run that is over ignores signals until its process is gone.
    with log_to_terminal():
        code = run(sys.argv[1:], LAUNCHED)
    leave(code)


if __name__ == "__main__":
    cli()
