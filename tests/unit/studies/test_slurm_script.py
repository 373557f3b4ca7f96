"""What a job's script does around its run, with programs that play Slurm and the run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from milozero.experiment.command_line import parse
from milozero.studies.calibers import Caliber
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
from milozero.studies.launch_config import LaunchConfig
from milozero.studies.launchers import slurm
from milozero.studies.launchers.cluster import Cluster
from milozero.studies.launchers.job_script import LaunchEnv

# A run that saves when it is told to, after an iteration of so many seconds; or ends by itself after so many.
RUN = """#!{python}
import json, pathlib, signal, sys, time

folder = pathlib.Path({folder!r})
def write(state, saved):
    content = json.dumps({{"state": state, "saved_iteration": saved}}, indent=2)
    (folder / "data/logs/j/status.json").write_text(content)
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
write("running", {saved})
(folder / "ready").touch()
end = time.monotonic() + {lasts}
while time.monotonic() < end and not asked:
    time.sleep(0.05)
if asked:
    time.sleep({iteration})
write("{state}" if asked else "finished", {saves})
sys.exit({code})
"""
# Of a job that runs, Slurm ends the script as well.
REQUEUE = """#!/bin/sh
echo "$@" >>{folder}/requeued
[ ! -e {folder}/ends ] || kill "$(cat {folder}/pid)"
exit {code}
"""


class Scene:
    """A job whose time is four seconds: it is told after two, and goes back as it is after one more."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("programs", "data/logs/j", "data/spawn/s"):
            (folder / name).mkdir(parents=True)
        self.processes = []

    def start(self, clear=False, requeue=0, site=None, array=(), **run):
        run = {"saved": 5, "saves": 7, "lasts": 30, "iteration": 0, "code": 0, "state": "stopped", **run}
        self.saved(run["saved"])
        programs = {
            "srun": RUN.format(python=sys.executable, folder=str(self.folder), **run),
            "scontrol": REQUEUE.format(folder=self.folder, code=requeue),
        }
        for name, text in programs.items():
            path = self.folder / "programs" / name
            path.write_text(text)
            path.chmod(0o755)
        folder = StudyFolder(str(self.folder / "data"), "s")
        cluster = Cluster({"short": Caliber("00:00:04", "x", "y")}, **site or {})
        here = LaunchEnv(self.folder, Path(sys.executable), "conda")
        text = slurm.script(Job("j", parse([])), ["--x"], LaunchConfig(clear=clear), cluster, folder, here)
        path = folder.script("j")
        path.write_text(text)
        environment = (
            os.environ | {"PATH": f"{self.folder}/programs:{os.environ['PATH']}", "SLURM_JOB_ID": "17"} | dict(array)
        )
        process = subprocess.Popen(
            ["bash", path], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.processes.append(process)
        (self.folder / "pid").write_text(str(process.pid))
        return process

    def saved(self, iteration):
        path = self.folder / "data/logs/j/status.json"
        path.write_text(json.dumps({"state": "running", "saved_iteration": iteration}, indent=2))

    def started(self, **how):
        process = self.start(**how)
        give_up = time.monotonic() + 20
        while not (self.folder / "ready").exists():
            assert time.monotonic() < give_up
            time.sleep(0.02)
        time.sleep(0.1)
        return process

    @property
    def left(self):
        """The exit code that the job left behind, and how often it went back into the queue."""
        code, requeued = self.folder / "data/spawn/s/j.exit", self.folder / "requeued"
        return (
            int(code.read_text()) if code.exists() else None,
            requeued.read_text().count("requeue 17\n") if requeued.exists() else 0,
        )


@pytest.fixture
def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    for process in scene.processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("code", [0, 1, 2, 137])
def test_run_that_ends_by_itself_hands_on_its_code(scene, code):
    assert scene.start(lasts=0, code=code).wait(20) == code
    assert scene.left == (code, 0)


def test_signal_makes_the_run_save_and_the_job_go_back(scene):
    process = scene.started()
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)  # Slurm may send it twice
    assert process.wait(20) == 0
    assert scene.left == (None, 1)


def test_task_of_an_array_goes_back_alone(scene):
    """One of them has the number of the whole array."""
    process = scene.started(array={"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "2"})
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 0
    assert (scene.folder / "requeued").read_text() == "requeue 17_2\n"


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_run_that_ends_otherwise_as_the_signal_comes_does_not_go_back(scene, state):
    code = int(state == "failed")
    process = scene.started(state=state, code=code)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == code
    assert scene.left == (code, 0)


@pytest.mark.parametrize("saved", [5, None])
def test_piece_that_reached_no_checkpoint_is_the_last(scene, saved):
    process = scene.started(saved=saved, saves=saved)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 1
    assert "error: no checkpoint was reached" in process.stderr.read()
    assert scene.left == (1, 0)


def test_iteration_that_is_too_long_goes_back_as_it_is(scene):
    process = scene.started(iteration=20, clear=True)
    scene.saved(6)  # a checkpoint since the piece began
    (scene.folder / "ends").touch()
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 143
    assert scene.left[1] == 1
    assert (scene.folder / "data/spawn/s/j.sh").exists()


def test_iteration_that_is_too_long_without_a_checkpoint_stays_and_says_so(scene):
    process = scene.started(iteration=3)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 0
    assert "error: no checkpoint was reached" in process.stderr.read()
    assert scene.left[1] == 1  # it came to one after all


def test_requeue_that_slurm_refuses_is_an_error(scene):
    process = scene.started(requeue=1)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 1
    assert scene.left == (1, 1)


def test_canceled_job_says_so(scene):
    process = scene.started()
    process.terminate()
    assert process.wait(20) == 143
    assert scene.left == (143, 0)


def test_what_fails_before_the_run_leaves_its_code(scene):
    assert scene.start(site={"commands": ("false",)}).wait(20) == 1
    assert scene.left == (1, 0)
    assert not (scene.folder / "ready").exists()


def test_clear_removes_the_files_at_the_end(scene):
    folder = scene.folder / "data/spawn/s"
    (folder / "j.yaml").touch()
    scene.start(clear=True, lasts=0).wait(20)
    assert {path.name for path in folder.iterdir()} == {"j.exit"}
