"""The ranks of a worker, without a real MPI."""

import os
import sys
from types import SimpleNamespace

import pytest

from milozero.helpers import comm as comms
from milozero.helpers.errors import UserError
from tests.support.fakes import on_workers


@pytest.fixture
def pinned_workers(monkeypatch):
    """Fake the third of four workers; returns the arguments of `pin_workers`: (local rank, local size)."""
    world = SimpleNamespace(Get_rank=lambda: 2, Get_size=lambda: 4, Dup=lambda: None)
    mpi = SimpleNamespace(
        COMM_WORLD=world, IN_PLACE=None, Status=None, Query_thread=lambda: 0, THREAD_MULTIPLE=3, Is_finalized=bool
    )
    mpi.Get_library_version, mpi.Is_initialized = lambda: "Open MPI v5.0.11", lambda: True
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi, rc=SimpleNamespace()))
    for name in (*comms.LOCAL_RANK_VARIABLES, *comms.LOCAL_SIZE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name in ("OMPI_MCA_btl_sm_eager_limit", "OMPI_MCA_btl_vader_eager_limit", "OMPI_MCA_mpi_yield_when_idle"):
        monkeypatch.setenv(name, "1")  # restored after the test
    pinned = []
    monkeypatch.setattr(comms, "pin_workers", lambda *ranks: pinned.append(ranks))
    return pinned


def test_launcher_provides_the_local_rank(pinned_workers, monkeypatch):
    monkeypatch.setenv(comms.LOCAL_RANK_VARIABLES[0], "1")
    monkeypatch.setenv(comms.LOCAL_SIZE_VARIABLES[0], "2")
    comm = comms.MPIComm()
    assert (comm.rank, comm.size, comm.local_rank) == (2, 4, 1)
    assert pinned_workers == [(1, 2)]


@pytest.mark.parametrize(("cores", "yields"), [(1, "1"), (2, None), (4, None), (None, "1")])
def test_waiting_workers_yield_only_if_they_share_cores(pinned_workers, monkeypatch, cores, yields):
    monkeypatch.setenv(comms.LOCAL_SIZE_VARIABLES[0], "2")
    monkeypatch.delenv("OMPI_MCA_mpi_yield_when_idle")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    comms.MPIComm()
    variable = "OMPI_MCA_mpi_yield_when_idle"
    assert os.environ.get(variable) == yields


def test_worker_without_a_local_rank_is_alone_on_its_machine(pinned_workers):
    assert comms.MPIComm().local_rank == 0  # its GPU is the first
    assert pinned_workers == [(0, 1)]


def test_every_worker_gets_the_result_or_the_error_of_rank_0():
    def read(comm, calls, text):
        calls.append(comm.rank)
        return int(text)

    calls = []
    assert on_workers(2, lambda comm: comm.on_root(lambda: read(comm, calls, "7"))) == [7, 7]
    assert calls == [0]

    def refuse(comm):
        def fail():
            raise UserError("no such file")

        with pytest.raises(UserError, match=r"^no such file$"):
            comm.on_root(fail)
        return "refused"

    assert on_workers(2, refuse) == ["refused", "refused"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, "the launcher started 4 workers, but MPI sees a world of 1"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "the launcher started 2 workers, but MPI sees a world of 4"),
        ({"OMPI_COMM_WORLD_SIZE": "4", "PMI_SIZE": "4"}, ""),
        ({"PMI_SIZE": "4", "PMIX_RANK": "2"}, ""),
    ],
)
@pytest.mark.usefixtures("pinned_workers")
def test_launcher_of_another_mpi_is_refused(monkeypatch, variables, message):
    for name in (*comms.SIZE_VARIABLES, *comms.RANK_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if not message:
        assert comms.make_comm().size == 4
        return
    with pytest.raises(UserError, match=message):
        comms.make_comm()


def test_another_mpi_may_use_its_own_launcher(pinned_workers, monkeypatch):
    monkeypatch.setattr(sys.modules["mpi4py"].MPI, "Get_library_version", lambda: "MPICH Version: 4.0.2")
    monkeypatch.setenv("PMI_SIZE", "4")
    assert comms.make_comm().size == 4


def test_launcher_that_does_not_say_how_many_workers_there_are_is_refused(monkeypatch):
    for name in (*comms.SIZE_VARIABLES, *comms.RANK_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    comms.check_launcher()
    assert comms.launched_rank() == 0
    monkeypatch.setenv("PMIX_RANK", "3")
    assert comms.launched_rank() == 3  # which does not repeat the error of rank 0
    with pytest.raises(UserError, match="start them with mpiexec, not prterun"):
        comms.check_launcher()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    comms.check_launcher()
