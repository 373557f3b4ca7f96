"""What every test may use. The tiers, from fast to slow: unit, cli, integration, system; see CONTRIBUTING.md."""

import ctypes.util
import os
import sys
from pathlib import Path

# Before anything imports numpy or torch: with more threads than one the tests take several times as long.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# What the tests start is this environment's, activated or not.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
# Before anything imports MuJoCo, which chooses what draws then; programs that tests start choose for themselves.
os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")
# No test speaks to the Weights & Biases of whoever runs it.
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


@pytest.fixture(autouse=True)
def _signals():
    """Give signals back that a run within the test took."""
    with restore_signals():
        yield


@pytest.fixture
def in_process(tmp_path):
    """Call main.py in this process; returns the result as that of a process."""
    return functools.partial(programs.call_main, tmp_path)


@pytest.fixture
def milozero(tmp_path):
    """Run main.py in a process of its own to its end; returns the finished process."""
    return functools.partial(programs.run_main, tmp_path)


@pytest.fixture
def started(tmp_path):
    """Start main.py; returns the running process, which does not outlive the test."""
    processes = []

    def run(*args, **how):
        processes.append(programs.start_main(tmp_path, *args, **how))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Train CartPole for six iterations, once: the data folder of a finished experiment `run`, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    result = programs.call_main(folder, *one_run.TRAINED)
    assert result.returncode == 0, result.stderr
    return folder / "data"


@pytest.fixture
def run(trained, tmp_path):
    """Have a finished experiment of six iterations in the test's data folder; returns its flags."""
    shutil.copytree(trained, tmp_path / "data")
    return one_run.TRAINED


@pytest.fixture
def studies(tmp_path):
    """Call spawner.py, with its data and its tmux server in folders of the test's."""
    found = Studies(tmp_path)
    yield found
    found.close()


@pytest.fixture
def server():
    """Serve the API of Weights & Biases on loopback."""
    with WandbServer() as found:
        yield found


@pytest.fixture
def own_server(server, monkeypatch):
    """Serve the API of Weights & Biases on loopback, to the clients of this process."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server
