"""A job's script with a fake Slurm and a fake run: exit codes, time limit, requeueing."""

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
from milozero.studies.config import Caliber, LaunchConfig
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
from milozero.studies.launchers import slurm
from milozero.studies.launchers.cluster import Cluster
from milozero.studies.launchers.job_script import LaunchEnv

# A run that saves on SIGUSR1 after `iteration` seconds, or else ends by itself after `lasts` seconds.
RUN = """#!{python}
import json, pathlib, signal, sys, time

folder = pathlib.Path({folder!r})
def write(state, saved):
    content = json.dumps({{"state": state, "saved_iteration": saved}}, indent=2)
    (folder / "data/logs/j/status.json").write_text(content)
signals = []
signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
write("running", {saved})
(folder / "ready").touch()
end = time.monotonic() + {lasts}
while time.monotonic() < end and not signals:
    time.sleep(0.05)
if signals:
    time.sleep({iteration})
write("{state}" if signals else "finished", {saves})
sys.exit({code})
"""
# Slurm also terminates the script of a running job.
REQUEUE = """#!/bin/sh
echo "$@" >>{folder}/requeued
[ ! -e {folder}/ends ] || kill "$(cat {folder}/pid)"
exit {code}
"""


class Scene:
    """A job with a time limit of four seconds: signaled after two, requeued without waiting after one more."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("programs", "data/logs/j", "data/spawn/s"):
            (folder / name).mkdir(parents=True)
        self.processes = []

    def start(self, clear=False, key="", requeue=0, site=None, array=(), **run):
        run = {"saved": 5, "saves": 7, "lasts": 30, "iteration": 0, "code": 0, "state": "stopped", **run}
        self.write_checkpoint(run["saved"])
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
        launch_env = LaunchEnv(self.folder, Path(sys.executable), "conda")
        launch = LaunchConfig(clear=clear, wandb_api_key=key)
        if key:
            folder.job_file("j", ".key").write_text(key)
        text = slurm.script(Job("j", parse([])), ["--x"], launch, cluster, folder, launch_env)
        path = folder.job_file("j", ".sh")
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

    def write_checkpoint(self, iteration):
        path = self.folder / "data/logs/j/status.json"
        path.write_text(json.dumps({"state": "running", "saved_iteration": iteration}, indent=2))

    def start_and_wait(self, **options):
        process = self.start(**options)
        deadline = time.monotonic() + 20
        while not (self.folder / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.1)
        return process

    @property
    def result(self):
        """The exit code that the job wrote, and how often it was requeued."""
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
def test_exit_code_of_the_run_is_the_jobs(scene, code):
    assert scene.start(lasts=0, code=code).wait(20) == code
    assert scene.result == (code, 0)


def test_signal_makes_the_run_save_and_requeues_the_job(scene):
    process = scene.start_and_wait()
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)  # Slurm may send it twice
    assert process.wait(20) == 0
    assert scene.result == (None, 1)


def test_only_one_task_of_an_array_is_requeued(scene):
    """The job number of the last task is that of the whole array."""
    process = scene.start_and_wait(array={"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "2"})
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 0
    assert (scene.folder / "requeued").read_text() == "requeue 17_2\n"


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_run_that_finishes_or_fails_at_the_time_limit_is_not_requeued(scene, state):
    code = int(state == "failed")
    process = scene.start_and_wait(state=state, code=code)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == code
    assert scene.result == (code, 0)


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("stopped", 0), ("failed", 1)])
@pytest.mark.parametrize("clear", [True, False])
def test_key_is_removed_when_the_job_ends(scene, state, code, clear):
    process = scene.start_and_wait(state=state, code=code, key="SECRET", clear=clear, requeue=1)
    process.send_signal(signal.SIGUSR1)
    process.wait(20)
    assert not (scene.folder / "data/spawn/s/j.key").exists()
    assert (scene.folder / "data/spawn/s/j.sh").exists() != clear


def test_key_is_kept_for_a_job_that_is_requeued(scene):
    process = scene.start_and_wait(key="SECRET", clear=True)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 0
    assert (scene.folder / "data/spawn/s/j.key").exists()


@pytest.mark.parametrize("saved", [5, None])
def test_job_without_a_new_checkpoint_is_not_requeued(scene, saved):
    process = scene.start_and_wait(saved=saved, saves=saved)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 1
    assert "error: no checkpoint was saved within the time limit" in process.stderr.read()
    assert scene.result == (1, 0)


def test_job_is_requeued_without_waiting_for_a_long_iteration(scene):
    process = scene.start_and_wait(iteration=20, clear=True)
    scene.write_checkpoint(6)
    (scene.folder / "ends").touch()
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 143
    assert scene.result[1] == 1
    assert (scene.folder / "data/spawn/s/j.sh").exists()


def test_long_iteration_without_a_checkpoint_is_an_error(scene):
    process = scene.start_and_wait(iteration=3)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 0
    assert "error: no checkpoint was saved within the time limit" in process.stderr.read()
    assert scene.result[1] == 1  # once the run has saved after all


def test_failed_requeue_is_an_error(scene):
    process = scene.start_and_wait(requeue=1)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 1
    assert scene.result == (1, 1)


def test_canceled_job_writes_its_exit_code(scene):
    process = scene.start_and_wait()
    process.terminate()
    assert process.wait(20) == 143
    assert scene.result == (143, 0)


def test_failure_before_the_run_writes_its_exit_code(scene):
    assert scene.start(site={"commands": ("false",)}).wait(20) == 1
    assert scene.result == (1, 0)
    assert not (scene.folder / "ready").exists()


def test_clear_removes_the_files(scene):
    folder = scene.folder / "data/spawn/s"
    (folder / "j.yaml").touch()
    scene.start(clear=True, lasts=0).wait(20)
    assert {path.name for path in folder.iterdir()} == {"j.exit"}
