"""What a worker finds out about its place, without an MPI."""

import sys
from types import SimpleNamespace

import pytest

from milozero.helpers import comm as comms


@pytest.fixture
def shared_out(monkeypatch):
    """Be the third of four workers; returns what is said of its cores: (place, workers) on this machine."""
    world = SimpleNamespace(Get_rank=lambda: 2, Get_size=lambda: 4, Dup=lambda: None)
    mpi = SimpleNamespace(
        COMM_WORLD=world, IN_PLACE=None, Status=None, Query_thread=lambda: 0, THREAD_MULTIPLE=3, Is_finalized=bool
    )
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi))
    for name in (*comms.LOCAL_RANK_VARIABLES, *comms.LOCAL_SIZE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name in ("OMPI_MCA_btl_sm_eager_limit", "OMPI_MCA_btl_vader_eager_limit", "OMPI_MCA_mpi_yield_when_idle"):
        monkeypatch.setenv(name, "1")  # given back after the test
    said = []
    monkeypatch.setattr(comms, "pin_workers", lambda *place: said.append(place))
    return said


def test_worker_has_its_place_on_the_machine_from_its_launcher(shared_out, monkeypatch):
    monkeypatch.setenv(comms.LOCAL_RANK_VARIABLES[0], "1")
    monkeypatch.setenv(comms.LOCAL_SIZE_VARIABLES[0], "2")
    comm = comms.MPIComm()
    assert (comm.rank, comm.size, comm.local_rank) == (2, 4, 1)
    assert shared_out == [(1, 2)]


def test_worker_that_is_told_no_place_is_alone_on_its_machine(shared_out):
    assert comms.MPIComm().local_rank == 0  # its GPU is the first
    assert shared_out == [(0, 1)]
