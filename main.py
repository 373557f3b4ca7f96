"""MiloZero's command line: ``--task=train``, ``eval`` plays a checkpoint, ``list_envs`` says on what.

``--task=demos`` says what experts did, and ``--task=report`` shows what came of it all.

The line to follow: parse → ExperimentInitializer → environments → agent → orchestrator.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from milozero.experiment.launch import Launch
from milozero.experiment.settings import parse
from milozero.experiment.watchdog import catch_early_signals, restore_signals
from milozero.helpers.comm import Comm, finalize, launched_rank, launched_size, make_comm
from milozero.helpers.errors import RunError, UserError
from milozero.helpers.logging import flush_stdio, log_to_terminal, logger
from milozero.tracking.tracker import BACKGROUND

if TYPE_CHECKING:
    from milozero.experiment.settings import Settings

LAUNCHED = time.monotonic()  # as near to the start of this process as Python comes
# Seconds until a worker that cannot go on ends the job for all: what it alone came to must not leave the others
# waiting. Where all have come to it, the first worker may have more to do, and then ends the job itself.
SOLO_ABORT_DELAY_S, COMMON_ABORT_DELAY_S = 2.0, 300.0


def train(settings: Settings, launch: Launch) -> None:
    """Train an agent, or continue training it."""
    from milozero import orchestrator

    orchestrator.train(settings, launch)


def evaluate(settings: Settings, launch: Launch) -> None:
    """Evaluate a checkpoint."""
    from milozero.evaluation import task

    task.evaluate(settings, launch)


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
