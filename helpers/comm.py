"""Communication between workers, with the same interface for one worker and for many. Only this module uses MPI.

With one worker, a run gets a `Comm` of size one and never imports mpi4py.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from milozero.helpers.affinity import pin_workers
from milozero.helpers.errors import UserError
from milozero.helpers.logging import flush_stdio

# Set by Open MPI, MPICH/Intel MPI and srun, respectively.
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "PMIX_RANK")
PMIX_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMIX_RANK")  # set by the launchers that Open MPI can connect to
LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
LOCAL_SIZE_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_TASKS_PER_NODE")

PING_TAG, PONG_TAG = 1, 2
PING_POLL_INTERVAL_S = 0.05
OUTPUT_DELAY_S = 0.2  # for the launcher to read this worker's output, which it may drop at an abort
EAGER_LIMIT_BYTES = 128 * 1024  # fits a gradient of 32,000 parameters
T = TypeVar("T")


def _read_env_int(names: tuple[str, ...], default: int) -> int:
    for name in names:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return default


def has_launcher() -> bool:
    """Return whether ``mpiexec`` or ``srun`` started this process."""
    return any(name in os.environ for name in SIZE_VARIABLES)


def launched_size() -> int:
    """Return the number of workers that the launcher reports; 1 without a launcher."""
    return _read_env_int(SIZE_VARIABLES, 1)


def launched_rank() -> int:
    """Return this worker's rank as the launcher reports it, before MPI starts; 0 without a launcher."""
    return _read_env_int(RANK_VARIABLES, 0) if launched_size() > 1 or not has_launcher() else 0


def check_launcher() -> None:
    """Raise a UserError if a launcher does not say how many workers it started: each would run alone."""
    if "PMIX_RANK" in os.environ and not has_launcher():
        raise UserError("PMIX_RANK is set, but not how many workers there are: start them with mpiexec, not prterun")


class Comm:
    """A single worker. Every collective is the identity."""

    rank = 0
    size = 1
    local_rank = 0
    local_size = 1  # workers on this machine
    local_cores = 1  # that they may use
    can_ping = True  # whether `ping_ranks` reaches other workers

    def sum_(self, array: np.ndarray) -> np.ndarray:
        """Sum `array` over all workers, in place, and return it."""
        return array

    def mean_(self, array: np.ndarray) -> np.ndarray:
        """Average `array` over all workers, in place, and return it."""
        array = self.sum_(array)
        array /= self.size
        return array

    def allgather(self, value: Any) -> list[Any]:
        """Return a list with each worker's `value`, ordered by rank, on every worker."""
        return [value]

    def gather(self, value: Any) -> list[Any]:
        """Return a list with each worker's `value`, ordered by rank, on rank 0; an empty list on the others."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return the `value` of rank 0 on every worker."""
        return value

    def on_root(self, call: Callable[[], T]) -> T:
        """Call a function on rank 0 only, and return its result on every worker.

        Raises:
            UserError: on every worker, if the call raises it.
        """
        result: Any = None
        problem = ""
        if self.rank == 0:
            try:
                result = call()
            except UserError as error:
                problem = str(error)
        result, problem = self.broadcast((result, problem))
        if problem:
            raise UserError(problem)
        return result

    def barrier(self) -> None:
        """Wait until all workers reach this call."""

    def ping_ranks(self, answer: Callable[[], str], timeout: float) -> dict[int, str]:
        """Ping all workers and return rank → answer of those that respond in time.

        Call this from a background thread; the main thread may be blocked in a collective.

        Args:
            answer: computes this worker's own answer.
            timeout: seconds to wait for the other workers.
        """
        return {self.rank: answer()}

    def answer_pings(self, answer: Callable[[], str]) -> None:
        """Answer pending pings. Call this about once a second from the background thread."""

    def abort(self, code: int) -> None:
        """Terminate the job, with all its workers, immediately."""
        flush_stdio()
        sys.exit(code)


class MPIComm(Comm):
    """The workers that ``mpiexec`` or ``srun`` started."""

    def __init__(self) -> None:
        # Waiting workers must leave the core to others (Open MPI spins by default).
        if _read_env_int(LOCAL_SIZE_VARIABLES, 1) > (os.cpu_count() or 1):
            os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
        # Send a gradient between workers of one machine as a single eager message. Larger messages than the limit, by
        # default 4 KiB, take twice as long. Open MPI 4 calls shared memory vader; other MPIs ignore both variables.
        for transport in ("sm", "vader"):
            os.environ.setdefault(f"OMPI_MCA_btl_{transport}_eager_limit", str(EAGER_LIMIT_BYTES))
        MPI = _init_mpi()
        self._world = MPI.COMM_WORLD
        self.rank = self._world.Get_rank()
        self.size = self._world.Get_size()
        self.local_rank = _read_env_int(LOCAL_RANK_VARIABLES, 0)
        self.local_size = _read_env_int(LOCAL_SIZE_VARIABLES, 1)
        self.local_cores = pin_workers(self.local_rank, self.local_size)
        self._in_place = MPI.IN_PLACE
        self._ping_world, self._new_status = self._world.Dup(), MPI.Status
        self._sent: list[Any] = []  # pending requests; never waited for, because a stopped worker receives nothing
        self.can_ping = MPI.Query_thread() == MPI.THREAD_MULTIPLE

    def sum_(self, array: np.ndarray) -> np.ndarray:
        """Sum `array` over all workers, in place, and return it."""
        self._world.Allreduce(self._in_place, array)
        return array

    def allgather(self, value: Any) -> list[Any]:
        """Return a list with each worker's `value`, ordered by rank, on every worker."""
        return list(self._world.allgather(value))

    def gather(self, value: Any) -> list[Any]:
        """Return a list with each worker's `value`, ordered by rank, on rank 0; an empty list on the others."""
        return list(self._world.gather(value) or [])

    def broadcast(self, value: Any) -> Any:
        """Return the `value` of rank 0 on every worker."""
        return self._world.bcast(value)

    def barrier(self) -> None:
        """Wait until all workers reach this call."""
        self._world.Barrier()

    def ping_ranks(self, answer: Callable[[], str], timeout: float) -> dict[int, str]:
        """Ping all workers and return rank → answer of those that respond in time."""
        if not self.can_ping:
            return {self.rank: answer()}
        answers = {self.rank: answer()}
        deadline = time.monotonic() + timeout
        self._sent += [self._ping_world.isend("", rank, PING_TAG) for rank in range(self.size) if rank != self.rank]
        while len(answers) < self.size and time.monotonic() < deadline:
            self.answer_pings(answer)
            answers |= dict(self._receive(PONG_TAG))
            time.sleep(PING_POLL_INTERVAL_S)
        return answers

    def answer_pings(self, answer: Callable[[], str]) -> None:
        """Answer pending pings. Call this about once a second from the background thread."""
        for rank, _ in self._receive(PING_TAG) if self.can_ping else ():
            self._sent.append(self._ping_world.isend(answer(), rank, PONG_TAG))

    def _receive(self, tag: int) -> Iterator[tuple[int, str]]:
        status = self._new_status()
        while (message := self._ping_world.improbe(tag=tag, status=status)) is not None:
            yield status.Get_source(), message.recv()

    def abort(self, code: int) -> None:
        """Terminate the job, with all its workers, immediately."""
        flush_stdio()
        time.sleep(OUTPUT_DELAY_S)
        self._world.Abort(code)


def _init_mpi() -> Any:
    """Initialize MPI and return mpi4py's module for it.

    Raises:
        UserError: if a launcher of another MPI library started this process. Open MPI would print a page about it.
    """
    import mpi4py

    mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
    from mpi4py import MPI

    is_connected = "PMI_SIZE" not in os.environ or any(name in os.environ for name in PMIX_VARIABLES)
    if "Open MPI" in MPI.Get_library_version() and not is_connected:
        raise _make_launcher_error(1)
    if not MPI.Is_initialized():
        MPI.Init_thread()  # with THREAD_MULTIPLE
    return MPI


def _make_launcher_error(size: int) -> UserError:
    """Return the error of a launcher that silently started worlds of `size` workers."""
    return UserError(
        f"the launcher started {launched_size()} workers, but MPI sees a world of {size}: "
        "mpiexec and mpi4py use different MPI libraries; use this environment's mpiexec, or srun --mpi=pmix"
    )


def finalize() -> None:
    """Finalize MPI if it is in use, as a regular interpreter exit does."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and not mpi.Is_finalized():
        mpi.Finalize()


def make_comm(num_workers: int | None = None) -> Comm:
    """Return the communicator of this run, with `num_workers` workers; None accepts any number.

    Raises:
        UserError: if the number of workers differs from `num_workers`, or from what the launcher reports: a launcher
            of another MPI library silently starts N worlds of one worker each.
    """
    launched = launched_size()
    comm = MPIComm() if launched > 1 else Comm()
    if comm.size != launched:
        raise _make_launcher_error(comm.size)
    if num_workers is not None and comm.size != num_workers:
        raise UserError(
            f"--num_workers={num_workers}, but {comm.size} started; run python main.py without "
            "mpiexec or srun, and it starts this many itself"
        )
    return comm
