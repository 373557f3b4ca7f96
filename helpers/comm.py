"""One worker or many: the same calls. The only file that knows MPI.

A run without ``mpiexec`` gets a `Comm` of size one and never imports mpi4py.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from milozero.helpers.affinity import pin_workers
from milozero.helpers.errors import UserError
from milozero.helpers.logging import flush_stdio

# What Open MPI, MPICH/Intel MPI and srun tell their processes.
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
LOCAL_SIZE_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_TASKS_PER_NODE")

QUESTION, ANSWER = 1, 2  # tags of a roll call's messages
OUTPUT_DELAY_S = 0.2  # for the launcher to read the output of this worker: at an abort it may drop the rest
EAGER_BYTES = 128 * 1024  # a gradient of 32,000 parameters


def _from_environment(names: tuple[str, ...], default: int) -> int:
    for name in names:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return default


def launched_size() -> int:
    """Return how many workers the launcher says it started; 1 without a launcher."""
    return _from_environment(SIZE_VARIABLES, 1)


def launched_rank() -> int:
    """Return this worker's rank as the launcher tells it, before MPI is up; 0 without a launcher."""
    return _from_environment(RANK_VARIABLES, 0) if launched_size() > 1 else 0


class Comm:
    """A communicator of one worker: every collective is the identity."""

    rank = 0
    size = 1
    local_rank = 0
    can_ask = True  # whether a roll call reaches the others

    def sum_(self, array: np.ndarray) -> np.ndarray:
        """Add `array` up over all workers, in place, and return it."""
        return array

    def mean_(self, array: np.ndarray) -> np.ndarray:
        """Average `array` over all workers, in place, and return it."""
        return array

    def allgather(self, value: Any) -> list[Any]:
        """Return every worker's `value`, by rank, on every worker."""
        return [value]

    def gather(self, value: Any) -> list[Any]:
        """Return every worker's `value`, by rank, on rank 0; an empty list elsewhere."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's `value` on every worker."""
        return value

    def barrier(self) -> None:
        """Wait until every worker is here."""

    def ping_ranks(self, answer: Callable[[], str], seconds: float) -> dict[int, str]:
        """Ask every worker for its `answer_pings`; return rank → answer of those that gave one within `seconds`.

        For a thread beside the main thread, which may wait in any other call meanwhile.
        """
        return {self.rank: answer()}

    def answer_pings(self, answer: Callable[[], str]) -> None:
        """Answer the roll calls that came meanwhile; to be called every second or so by that thread."""

    def abort(self, code: int) -> None:
        """End this worker, and with it the whole job, at once."""
        flush_stdio()
        sys.exit(code)


class MPIComm(Comm):
    """The workers that ``mpiexec`` or ``srun`` started."""

    def __init__(self) -> None:
        # Waiting workers must not burn a core that another worker needs (Open MPI spins by default).
        if _from_environment(LOCAL_SIZE_VARIABLES, 1) > (os.cpu_count() or 1):
            os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
        # Between workers of one machine, a gradient goes over in one piece; by default (4 KiB) the two first agree on
        # how to send it, which takes twice as long. Open MPI 4 calls shared memory vader; other MPIs read neither.
        for transport in ("sm", "vader"):
            os.environ.setdefault(f"OMPI_MCA_btl_{transport}_eager_limit", str(EAGER_BYTES))
        from mpi4py import MPI

        self._world = MPI.COMM_WORLD
        self.rank = self._world.Get_rank()
        self.size = self._world.Get_size()
        self.local_rank = _from_environment(LOCAL_RANK_VARIABLES, 0)
        pin_workers(self.local_rank, _from_environment(LOCAL_SIZE_VARIABLES, 1))
        self._in_place = MPI.IN_PLACE
        self._calls, self._new_status = self._world.Dup(), MPI.Status  # for roll calls
        self._sent: list[Any] = []  # in them: who is stopped takes nothing, so nobody waits for it
        self.can_ask = MPI.Query_thread() == MPI.THREAD_MULTIPLE  # mpi4py asks for it; threads may call

    def sum_(self, array: np.ndarray) -> np.ndarray:
        """Add `array` up over all workers, in place, and return it."""
        self._world.Allreduce(self._in_place, array)
        return array

    def mean_(self, array: np.ndarray) -> np.ndarray:
        """Average `array` over all workers, in place, and return it."""
        self._world.Allreduce(self._in_place, array)
        array /= self.size
        return array

    def allgather(self, value: Any) -> list[Any]:
        """Return every worker's `value`, by rank, on every worker."""
        return list(self._world.allgather(value))

    def gather(self, value: Any) -> list[Any]:
        """Return every worker's `value`, by rank, on rank 0; an empty list elsewhere."""
        return list(self._world.gather(value) or [])

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's `value` on every worker."""
        return self._world.bcast(value)

    def barrier(self) -> None:
        """Wait until every worker is here."""
        self._world.Barrier()

    def ping_ranks(self, answer: Callable[[], str], seconds: float) -> dict[int, str]:
        """Ask every worker for its `answer_pings`; return rank → answer of those that gave one within `seconds`.

        For a thread beside the main thread, which may wait in any other call meanwhile.
        """
        if not self.can_ask:
            return {self.rank: answer()}
        answers = {self.rank: answer()}
        give_up = time.monotonic() + seconds
        self._sent += [self._calls.isend("", rank, QUESTION) for rank in range(self.size) if rank != self.rank]
        while len(answers) < self.size and time.monotonic() < give_up:
            self.answer_pings(answer)
            answers |= dict(self._received(ANSWER))
            time.sleep(0.05)
        return answers

    def answer_pings(self, answer: Callable[[], str]) -> None:
        """Answer the roll calls that came meanwhile; to be called every second or so by that thread."""
        for rank, _ in self._received(QUESTION) if self.can_ask else ():
            self._sent.append(self._calls.isend(answer(), rank, ANSWER))

    def _received(self, tag: int) -> Iterator[tuple[int, str]]:
        status = self._new_status()
        while (message := self._calls.improbe(tag=tag, status=status)) is not None:
            yield status.Get_source(), message.recv()

    def abort(self, code: int) -> None:
        """End this worker, and with it the whole job, at once."""
        flush_stdio()
        time.sleep(OUTPUT_DELAY_S)
        self._world.Abort(code)


def finalize() -> None:
    """Take leave of the other workers, as Python's own exit does."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and not mpi.Is_finalized():
        mpi.Finalize()


def make_comm(num_workers: int | None = None) -> Comm:
    """Return the communicator of this run.

    Args:
        num_workers: how many workers the user asked for; None takes what was started.

    Raises:
        UserError: where the number of workers that run differs from what was asked for. A launcher that does
            not fit the MPI library starts N worlds of one worker each, silently; this notices.
    """
    launched = launched_size()
    comm = MPIComm() if launched > 1 else Comm()
    if comm.size != launched:
        raise UserError(
            f"the launcher started {launched} workers, but MPI sees a world of {comm.size}: "
            "mpiexec and mpi4py are of different MPI libraries; use this environment's mpiexec, or srun --mpi=pmix",
        )
    if num_workers is not None and comm.size != num_workers:
        raise UserError(
            f"--num_workers={num_workers}, but {comm.size} started; run: mpiexec -n {num_workers} python main.py ...",
        )
    return comm
