"""Fixtures of all tests. The tiers, from fast to slow: unit, cli, integration, system; see CONTRIBUTING.md."""

import ctypes.util
import os
import signal
import sys
from pathlib import Path

# Set before numpy and torch are imported. With more than one thread, the tests take several times as long.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Tests start the programs of this virtual environment even if it is not activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
# MuJoCo selects its renderer when it is imported. Programs that tests start select their own.
os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")
# Keep tests away from the developer's Weights & Biases account.
os.environ |= {"NETRC": os.devnull, "WANDB_API_KEY": "", "WANDB_ERROR_REPORTING": "false"}
os.environ.pop("WANDB_MODE", None)

import functools
import shutil

import pytest
import torch

from milozero.experiment.watchdog import restore_signals
from tests.support import one_run, programs
from tests.support.studies import Studies
from tests.support.wandb_server import WandbServer

pytest_plugins = ["pytester", "tests.support.skips"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_nohup():
    """Let SIGHUP end the programs that tests start, even under ``nohup make test``, which ignores it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _signals():
    """Restore the signal handlers that a run within the test has replaced."""
    with restore_signals():
        yield


@pytest.fixture
def in_process(tmp_path):
    """Call main.py in this process; returns a CompletedProcess."""
    return functools.partial(programs.call_main, tmp_path)


@pytest.fixture
def milozero(tmp_path):
    """Run main.py in its own process until it exits; returns the finished process."""
    return functools.partial(programs.run_main, tmp_path)


@pytest.fixture
def started(tmp_path):
    """Start main.py; returns the running process, which is killed after the test."""
    processes = []

    def run(*args, **options):
        processes.append(programs.start_main(tmp_path, *args, **options))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Train the experiment `run` on CartPole for six iterations, once per session; returns the data folder."""
    folder = tmp_path_factory.mktemp("trained")
    result = programs.call_main(folder, *one_run.TRAINED)
    assert result.returncode == 0, result.stderr
    return folder / "data"


@pytest.fixture
def run(trained, tmp_path):
    """Copy a finished experiment of six iterations to the test's data folder; returns its flags."""
    shutil.copytree(trained, tmp_path / "data")
    return one_run.TRAINED


@pytest.fixture
def studies(tmp_path):
    """Call spawner.py, with its data and tmux server in the test's folder."""
    result = Studies(tmp_path)
    yield result
    result.close()


@pytest.fixture
def server():
    """Serve the Weights & Biases API on loopback."""
    with WandbServer() as wandb_server:
        yield wandb_server


@pytest.fixture
def own_server(server, monkeypatch):
    """Serve the Weights & Biases API on loopback, and direct the clients of this process to it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server
