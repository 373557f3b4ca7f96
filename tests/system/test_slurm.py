"""Runs are stopped by a real Slurm, with its signals and its launcher."""

import csv
import json
import os
import shutil
import sys
import time

import pytest

from tests.support import ROOT
from tests.support.slurm import Slurm, available
from tests.support.user_envs import SLOW_TRAINING

pytestmark = [
    pytest.mark.skipif(not available(), reason="apt install slurm-wlm munge libpmix-dev"),
    pytest.mark.xdist_group("slurm"),
]
TRAIN = [sys.executable, str(ROOT / "main.py"), *SLOW_TRAINING]
TWO = f"{shutil.which('mpiexec')} -n 2"
PMIX = "srun --mpi=pmix -N 2 -n 2"  # a worker on each node


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Slurm(tmp_path_factory.mktemp("s"), kill_wait=20) as slurm:
        slurm.env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        yield slurm


def submit(cluster, data, launcher, iterations, prefix=""):
    """Submit a job that resumes the run under `data`."""
    words = [launcher, *TRAIN, f"--data_dir={data}", "--uuid=run", "--resume=auto", f"--num_iters={iterations}"]
    script = data.with_suffix(".sh")
    script.write_text(f"#!/bin/sh\n{prefix}{' '.join(words)}\n")
    return cluster.submit("-N", "2", "-n", "2", f"--output={data}.out", str(script))


def rows(data):
    path = data / "logs/run/progress.csv"
    return [int(row["iteration"]) for row in csv.DictReader(path.read_text().splitlines())] if path.exists() else []


def status(data):
    return json.loads((data / "logs/run/status.json").read_text())


def wait_for_rows(data, count):
    deadline = time.monotonic() + 500
    while len(rows(data)) < count:
        assert time.monotonic() < deadline, data.with_suffix(".out").read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("launcher", "prefix", "cancel", "state"),
    [
        (PMIX, "", ("--signal=USR1",), "COMPLETED"),  # as `#SBATCH --signal=USR1@60` does
        (PMIX, "", (), "CANCELLED"),  # SIGTERM, and SIGKILL after KillWait
        (TWO, "exec ", ("--signal=USR1", "--batch"), "COMPLETED"),  # as `#SBATCH --signal=B:USR1@60` does
    ],
    ids=["srun-USR1", "srun-cancel", "mpiexec-USR1"],
)
def test_job_stops_with_a_checkpoint_and_the_next_one_resumes(cluster, tmp_path, launcher, prefix, cancel, state):
    data = tmp_path / "data"
    job = submit(cluster, data, launcher, 100_000, prefix)
    wait_for_rows(data, 2)
    cluster.run("scancel", *cancel, job).check_returncode()
    cluster.wait_for_state(job, state)
    deadline = time.monotonic() + 500
    while status(data)["state"] == "running":  # Slurm reports a job as canceled before it has ended
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stopped, last = status(data), rows(data)[-1]
    assert (stopped["state"], stopped["saved_iteration"], stopped["slurm_job_id"]) == ("stopped", last, job)
    job = submit(cluster, data, launcher, last + 3, prefix)
    cluster.wait_for_state(job, "COMPLETED", "FAILED")
    assert status(data)["state"] == "finished", data.with_suffix(".out").read_text()
    assert rows(data) == list(range(1, last + 4))


def test_single_worker_in_a_batch_script_needs_no_launcher(cluster, tmp_path):
    data = tmp_path / "data"
    job = submit(cluster, data, "", 2)
    cluster.wait_for_state(job, "COMPLETED", "FAILED")
    assert status(data)["state"] == "finished", data.with_suffix(".out").read_text()


def test_srun_without_a_common_world_is_an_error(cluster, tmp_path):
    result = cluster.run("srun", "-n", "2", *TRAIN, f"--data_dir={tmp_path}/data", "--num_iters=1")
    assert result.returncode == 2
    assert "the launcher started 2 workers, but MPI sees a world of 1" in result.stderr
    assert not os.path.exists(tmp_path / "data")
