"""Training with several MPI workers: equal gradients, synchronized parameters and failures."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torture

from milozero.experiment import checkpoint
from milozero.helpers.comm import Comm
from tests.support import ROOT, programs
from tests.support.first_gradient import CASES, first_gradients
from tests.support.one_run import FOR_EVER, PENDULUM, SLOW, iterations, status, wait_for


def test_gradient_of_two_workers_equals_that_of_one_with_both_environments(tmp_path):
    path = tmp_path / "gradients.npz"
    program = [sys.executable, str(ROOT / "tests/support/first_gradient.py"), str(path)]
    environment = os.environ | programs.AS_ROOT | {"PYTHONPATH": str(ROOT)}
    subprocess.run([shutil.which("mpiexec"), "-n", "2", *program], check=True, env=environment, timeout=500)
    two_workers, one_worker = np.load(path), first_gradients(Comm())
    assert set(two_workers.files) == set(one_worker) == set(CASES)
    for name, gradient in one_worker.items():
        assert np.linalg.norm(gradient) > 1e-4
        assert np.linalg.norm(gradient - two_workers[name]) / np.linalg.norm(gradient) < 1e-5, name


def test_workers_stay_in_sync_and_shuffle_differently(milozero, tmp_path):
    result = milozero(
        *PENDULUM, "--num_iters=3", "--uuid=two", "--sync_check_frequency=1", "--num_workers=2", workers=2
    )
    assert result.returncode == 0, result.stderr
    state = torch.load(tmp_path / "data/checkpoints/two/last.pt", weights_only=True)
    assert state["counters"]["timesteps"] == 3 * 2 * 256
    assert len(state["workers"]) == 2
    assert state["workers"][0]["agent"]["shuffle"] != state["workers"][1]["agent"]["shuffle"]
    assert state["config"]["num_workers"] == 2


@pytest.mark.alone
def test_worker_that_raises_ends_the_job_within_ten_seconds_with_its_traceback(milozero):
    started = time.monotonic()
    result = milozero(
        *PENDULUM, "--env_id=tests.support.user_envs:Breaking-v0", "--num_iters=1000", workers=2, timeout=200
    )
    assert result.returncode != 0
    assert "RuntimeError: the simulator broke" in result.stderr
    assert "worker 1 of 2 failed" in result.stderr
    assert time.monotonic() - started < 20  # including start-up


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_program_starts_its_own_workers_and_a_signal_saves_them(started, tmp_path, number):
    process = started(*SLOW, FOR_EVER, "--num_workers=2")
    wait_for(lambda: len(iterations(tmp_path)) >= 2)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=500)
    assert process.returncode == 0, stderr
    assert "2 workers" in stdout
    assert "stopping after this iteration" in stderr
    assert status(tmp_path)["state"] == "stopped"
    state = checkpoint.load(tmp_path / "data/checkpoints/run/last.pt")
    assert len(state["workers"]) == 2
    assert state["counters"]["iteration"] == iterations(tmp_path)[-1]
    assert not torture.find_workers(tmp_path / "data")


def test_wrong_number_of_workers_is_an_error(milozero, tmp_path):
    result = milozero(*PENDULUM, "--num_workers=3", workers=2)
    assert result.returncode == 2
    assert "--num_workers=3, but 2 started" in result.stderr
    assert result.stderr.count("error: --num_workers") == 1
    assert not (tmp_path / "data").exists()


def test_mpiexec_of_another_mpi_is_an_error(milozero, tmp_path):
    result = milozero(*PENDULUM, env={"PMI_SIZE": "2", "PMI_RANK": "0"})
    assert result.returncode == 2
    assert "world of 1" in result.stderr
    assert not (tmp_path / "data").exists()


def test_one_worker_needs_no_mpi(milozero, tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('there is no MPI here')")
    result = milozero(*PENDULUM, "--num_iters=1", env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 0, result.stderr
