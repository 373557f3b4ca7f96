import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))


def pytest_collection_modifyitems(items):
    """Unit tests first: they tell soonest."""
    for item in items:
        if "commands" in item.path.parts:
            item.add_marker(pytest.mark.command)
    items.sort(key=lambda item: item.get_closest_marker("command") is not None)


@pytest.fixture
def milozero(tmp_path):
    """Run main.py as a user does, its data in a folder of the test's; returns the finished process."""

    def run(*args, workers=0, env=(), data=tmp_path / "data", timeout=120):
        main = [sys.executable, str(ROOT / "main.py"), f"--data_dir={data}", *args]
        launcher = [shutil.which("mpiexec"), "-n", str(workers)] if workers else []
        environment = os.environ | {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PYTHONPATH": str(ROOT / "tests"),
            **dict(env),
        }
        command = launcher + main
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, cwd=tmp_path)

    return run
