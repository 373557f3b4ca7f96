# PYTHON_ARGCOMPLETE_OK  (argcomplete completes only the flags of programs with this mark)
"""The command line of MiloZero: train, evaluate, list environments, summarize demonstrations, write reports.

``--task=train`` runs: parse → ExperimentInitializer → environments → agent → orchestrator.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from milozero.helpers.files import check_working_directory
from milozero.helpers.import_path import search_repository_last
from milozero.helpers.installation import require_packages

if __name__ in ("__main__", "__mp_main__"):  # also in processes that an environment spawns
    search_repository_last()
if __name__ == "__main__":
    require_packages()  # before they are imported

from milozero.experiment.command_line import DESCRIPTION, EPILOG, complete_line, parse
from milozero.experiment.launch import Launch
from milozero.experiment.watchdog import catch_early_signals, restore_signals
from milozero.helpers.comm import (
    Comm,
    check_launcher,
    finalize,
    has_launcher,
    launched_rank,
    launched_size,
    make_comm,
)
from milozero.helpers.config import completion
from milozero.helpers.errors import RunError, UserError
from milozero.helpers.logging import flush_stdio, log_to_terminal, logger, set_quiet
from milozero.helpers.mpiexec import INTERRUPTED_EXIT_CODE, run_workers
from milozero.tracking.tracker import TRACKER_THREAD_NAME

if TYPE_CHECKING:
    from milozero.experiment.settings import Settings

START_TIME = time.monotonic()  # of this process
# Delays before a failing worker other than rank 0 aborts the job: short if only this worker failed, because others
# would wait for it; long if all failed, because rank 0 then aborts the job itself.
SOLO_ABORT_DELAY_S, COMMON_ABORT_DELAY_S = 2.0, 300.0


def run_task(settings: Settings, launch: Launch) -> None:
    """Run a task, which imports only what it needs. All workers train and evaluate; rank 0 does the rest alone."""
    task, is_root = settings.common.task, launch.comm.rank == 0
    if task == "train":
        from milozero import orchestrator

        orchestrator.train(settings, launch)
    elif task == "eval":
        from milozero.evaluation import evaluate

        evaluate.evaluate(settings, launch)
    elif task == "list_envs" and is_root:
        from milozero.environments import listing

        listing.show(settings.listing.only)
    elif task == "demos" and is_root:
        from milozero.demonstrations import table

        table.show(settings.imitation)
    elif task == "report" and is_root:
        from milozero.reports import report

        report.write_report(settings.report, Path(settings.common.data_dir))


def run(argv: list[str], start_time: float, *, is_program: bool = False) -> int:
    """Run one task and return its exit code: 0 on success, 1 if the run failed, 2 for a user error.

    Args:
        argv: the arguments.
        start_time: ``time.monotonic()`` when this launch started.
        is_program: whether this process exits after the task, so that it may start the workers instead of being one.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # runs are parallelized over workers, not threads
    catch_early_signals()
    comm = Comm()
    with contextlib.ExitStack() as cleanup:
        try:
            check_working_directory()
            if is_program and not argv:
                return _print_usage()
            settings = parse(argv)
            if settings.common.quiet:
                set_quiet()
            check_launcher()
            num_workers = settings.common.num_workers or 1
            if is_program and num_workers > 1 and not has_launcher():
                return run_workers(num_workers, [sys.executable, os.path.abspath(__file__), *argv])
            comm = make_comm(settings.common.num_workers)
            run_task(settings, Launch(comm, cleanup, start_time))
        except (UserError, RunError) as error:
            return _fail(error, comm, cleanup)
        except SystemExit:
            raise
        except KeyboardInterrupt:  # before a run catches signals, or in a task that has nothing to save
            logger.error("interrupted")
            if comm.size > 1:
                comm.abort(INTERRUPTED_EXIT_CODE)
            return INTERRUPTED_EXIT_CODE
        except BaseException as error:
            logger.error(f"worker {comm.rank} of {launched_size()} failed: {error}", exc_info=True)
            if comm.size > 1:
                comm.abort(1)
            return 1
    return 0


def _print_usage() -> int:
    """Print how to use the program, and return the exit code."""
    if launched_rank() == 0:
        print(f"{DESCRIPTION}\n\n{EPILOG}\n`main.py -h` shows the flags of PPO.")
    return 2


def _fail(error: UserError | RunError, comm: Comm, cleanup: contextlib.ExitStack) -> int:
    """Report an error and return the exit code. If all workers raise it, usually only rank 0 reports it."""
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


def main(argv: list[str]) -> int:
    """Run one task and return its exit code; may be called repeatedly in one process.

    On return, signal handlers and logging are restored, and the experiment's lock is released.
    """
    with restore_signals(), log_to_terminal():
        return run(argv, time.monotonic())


def cli() -> NoReturn:
    """Run as a program: ``python main.py``, or ``milozero`` if it is installed."""
    if completion.VARIABLE in os.environ:
        complete_line(os.environ.get("COMP_LINE", ""))
    # Not main(), which would restore the signals: they stay ignored until the process exits.
    with log_to_terminal():
        code = run(sys.argv[1:], START_TIME, is_program=True)
    flush_stdio()
    if any(thread.name == TRACKER_THREAD_NAME for thread in threading.enumerate()):
        finalize()
        os._exit(code)  # without waiting for the stuck thread
    sys.exit(code)


if __name__ == "__main__":
    cli()
