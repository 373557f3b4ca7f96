"""Named pipes, removed folders and other odd files in place of a user's files."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.one_run import QUICK


@pytest.mark.parametrize(
    "file",
    [
        *("checkpoints/run/last.pt", "checkpoints/run/best.pt", "checkpoints/run/config.yaml"),
        *("logs/run/progress.csv", "logs/run/log.txt", "logs/run/status.json", "logs/run/config.yaml"),
    ],
)
@pytest.mark.parametrize("task", ["eval", "resume", "report"])
def test_named_pipe_among_the_files_of_a_run_does_not_block(run, milozero, tmp_path, file, task):
    path = tmp_path / "data" / file
    path.unlink()
    os.mkfifo(path)
    flags = {
        "eval": ("--task=eval", "--model_path=data/checkpoints/run", "--num_trajs=1"),
        "resume": (*run[:-1], "--num_iters=7", "--resume"),
        "report": ("--task=report", "--study=run"),
    }
    result = milozero(*flags[task])
    assert result.returncode in (0, 1, 2)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("program", ["main.py", "spawner.py"])
def test_named_pipe_as_the_task_file_is_an_error(tmp_path, program):
    os.mkfifo(tmp_path / "pipe")
    flags = {"main.py": ("--task=train", *QUICK), "spawner.py": ("--prefix=x", "--no-deploy_now")}[program]
    command = [sys.executable, ROOT / program, *flags, f"--config={tmp_path / 'pipe'}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500)
    assert result.returncode == 2
    assert result.stderr == f"error: cannot read the config file '{tmp_path / 'pipe'}': not a regular file\n"


def test_task_file_of_a_process_substitution_is_read(tmp_path):
    command = f"{sys.executable} {ROOT}/main.py --task=train --config=<(echo num_iters: nonsense)"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, timeout=500)
    assert result.returncode == 2
    assert "num_iters" in result.stderr


@pytest.mark.parametrize("program", ["main.py", "spawner.py"])
def test_removed_working_directory_is_an_error(tmp_path, program):
    command = f'cd "{tmp_path}" && rmdir "{tmp_path}" && exec {sys.executable} {ROOT}/{program} --prefix=x'
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=500)
    assert result.returncode == 2
    assert result.stderr == "error: the working directory no longer exists; change to one that does\n"
