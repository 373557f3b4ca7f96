"""Users' modules hide the repository's of the same name in both programs, workers and environments' processes."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.programs import AS_ROOT

MODULE = """
from helpers import SPEED
from environments.maze import WIDTH
import gymnasium, multiprocessing
def work(pipe):
    pipe.send(WIDTH)
if multiprocessing.current_process().name == "MainProcess":  # a simulator in a process of its own
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=work, args=(there,)).start()
    there.close()
    WIDTH = here.recv()
gymnasium.register(f"Maze{SPEED}{WIDTH}-v0", gymnasium.Env)
"""
TRAIN = ("main.py", "--task=train", "--env_id=mazes:Missing-v0")
SPAWN = ("spawner.py", f"--config={ROOT}/tasks/train_mujoco_ppo.yaml", "--env_bundle=mazes:Missing-v0")


@pytest.mark.parametrize(
    ("launcher", "words", "is_on_path"),
    [((), TRAIN, True), ((shutil.which("mpiexec"), "-n", "2"), TRAIN, False), ((), SPAWN, True)],
    ids=["main.py", "workers", "spawner.py"],
)
def test_users_modules_hide_ours(launcher, words, is_on_path, tmp_path):
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments/maze.py").write_text("WIDTH = 4\n")
    (tmp_path / "helpers.py").write_text("SPEED = 3\n")
    (tmp_path / "mazes.py").write_text(MODULE)
    program, *flags = words
    command = [*launcher, sys.executable, str(ROOT / program), *flags, f"--data_dir={tmp_path / 'data'}"]
    env = os.environ | AS_ROOT | {"PYTHONPATH": f"{ROOT}:{tmp_path}" if is_on_path else ""}
    cwd = ROOT if is_on_path else tmp_path
    result = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=cwd, env=env)
    assert result.returncode == 2, result.stderr
    assert "'mazes' registers Maze34-v0" in result.stderr
