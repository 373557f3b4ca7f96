import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))
# No test speaks to the Weights & Biases of whoever runs it.
os.environ |= {"NETRC": os.devnull, "WANDB_API_KEY": "", "WANDB_ERROR_REPORTING": "false"}
os.environ.pop("WANDB_MODE", None)


def pytest_collection_modifyitems(items):
    """Unit tests first: they tell soonest."""
    for item in items:
        if "commands" in item.path.parts:
            item.add_marker(pytest.mark.command)
    items.sort(key=lambda item: item.get_closest_marker("command") is not None)


@pytest.fixture(autouse=True)
def _signals():
    """Give signals back that a run within the test took."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start(tmp_path, *args, workers=0, env=(), data=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
    """Start main.py as a user does, its data in a folder of the test's."""
    main = [sys.executable, str(ROOT / "main.py"), f"--data_dir={data or tmp_path / 'data'}", *args]
    launcher = [shutil.which("mpiexec"), "-n", str(workers)] if workers else []
    environment = os.environ | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PYTHONPATH": str(ROOT / "tests"),
        **dict(env),
    }
    command = launcher + main
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, env=environment, cwd=tmp_path)


@pytest.fixture
def milozero(tmp_path):
    """Run main.py to its end; returns the finished process."""

    def run(*args, timeout=120, **how):
        with start(tmp_path, *args, **how) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


@pytest.fixture
def started(tmp_path):
    """Start main.py; returns the running process, which does not outlive the test."""
    processes = []

    def run(*args, **how):
        processes.append(start(tmp_path, *args, **how))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()
