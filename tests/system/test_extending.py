"""The examples of docs/extending.md and docs/getting_started.md work as written."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.support import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
# Starts a program after adding the page's files to its packages and the page's entries to its tables.
WRAPPER = """
import sys
from milozero import {program}, agents
from milozero.agents import Algorithm
from milozero.studies import config as launch_config, launchers
agents.__path__.append({folder!r})
launchers.__path__.append({folder!r})
agents.AGENTS["vpg"] = {vpg}
launch_config.LAUNCHERS["processes"] = {processes}
sys.argv[0] = "{program}.py"
sys.exit({program}.main(sys.argv[1:]))
"""


@pytest.fixture
def added(tmp_path):
    """Write the page's code to a folder on Python's path; returns a function that runs a program with it."""
    files = {
        "vpg_config": '"""Hyper-parameters',
        "vpg_agent": '"""Policy gradient',
        "processes": '"""Jobs as processes',
    }
    for name, start in files.items():
        code = re.search(rf"```python\n({re.escape(start)}.*?)```", PAGE, re.DOTALL)[1]
        (tmp_path / f"{name}.py").write_text(code)
    lines = {name: re.search(rf'^    "{name}": (.+),$', PAGE, re.MULTILINE)[1] for name in ("vpg", "processes")}
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment |= {"PYTHONPATH": f"{ROOT}:{tmp_path}"}

    def run(program, *flags, workers=0):
        launcher = ["mpiexec", "-n", str(workers)] if workers else []
        command = [
            *launcher,
            sys.executable,
            "-c",
            WRAPPER.format(program=program, folder=str(tmp_path), **lines),
            *flags,
            f"--data_dir={tmp_path}/data",
        ]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500)

    yield run
    for record in tmp_path.glob("data/spawn/*/study.json"):  # jobs that a failed test has left running
        for job in json.loads(record.read_text())["jobs"].values():
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.killpg(int(job["job_id"]), signal.SIGKILL)


def test_documented_environment_trains_and_records_a_video(added, tmp_path):
    page = (ROOT / "docs" / "getting_started.md").read_text()
    (tmp_path / "my_envs.py").write_text(re.search(r"```python\n(# my_envs.py\n.*?)```", page, re.DOTALL)[1])
    flags = ("--task=train", "--env_id=my_envs:Reach-v0", "--num_envs=4", "--num_timesteps=4e4", "--uuid=reach")
    trained = added("main", *flags, "--eval_frequency=20", workers=2)
    assert trained.returncode == 0, trained.stderr
    rows = (tmp_path / "data" / "logs" / "reach" / "progress.csv").read_text().splitlines()
    returns = [float(row["return_mean"]) for row in csv.DictReader(rows) if row["return_mean"]]
    assert returns[-1] > 0.5 * returns[0]  # returns are negative distances: these have halved
    model = tmp_path / "data" / "checkpoints" / "reach"
    evaluated = added(
        "main", "--task=eval", f"--model_path={model}", "--env_module=my_envs", "--num_trajs=1", "--record"
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert (tmp_path / "data" / "evaluations" / "reach" / "best" / "episode_000.mp4").stat().st_size > 1000


def test_documented_algorithm_trains_resumes_and_evaluates(added, tmp_path):
    flags = (
        "--task=train",
        "--algo=vpg",
        "--env_id=CartPole",
        "--rollout_len=512",
        "--num_envs=4",
        "--batch_size=512",
    )
    flags += ("--lr_schedule=constant", "--save_frequency=2")
    uninterrupted = added("main", *flags, "--num_iters=4", "--uuid=uninterrupted", workers=2)
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    added("main", *flags, "--num_iters=2", "--uuid=resumed", workers=2)
    resumed = added("main", *flags, "--num_iters=4", "--uuid=resumed", "--resume", workers=2)
    assert resumed.returncode == 0, resumed.stderr
    first, second = (last_row(tmp_path, name) for name in ("uninterrupted", "resumed"))
    assert first["policy_loss"]
    assert "clip_fraction" not in first
    timing = {"seconds", "steps_per_second", "time_left", "best_eval_return"}  # one more evaluation if resumed
    assert {k: v for k, v in first.items() if k not in timing} == {k: v for k, v in second.items() if k not in timing}
    result = added("main", "--task=eval", f"--model_path={tmp_path}/data/checkpoints/uninterrupted", "--num_trajs=2")
    assert result.returncode == 0, result.stderr
    assert "--batch_size" in added("main", "--algo=vpg", "-h").stdout


def test_documented_algorithm_learns(added, tmp_path):
    """A random policy balances CartPole for about 20 steps; each of 24 seeds learned to balance it for all 500.

    The result of a seed differs between processors, so every seed must learn.
    """
    flags = (
        "--num_timesteps=200000",
        "--num_envs=32",
        "--rollout_len=1024",
        "--batch_size=1024",
        "--p_lr=0.002",
        "--v_lr=0.01",
    )
    done = added(
        "main", "--task=train", "--algo=vpg", "--env_id=CartPole", *flags, "--eval_frequency=0", "--uuid=learns"
    )
    assert done.returncode == 0, done.stderr
    assert float(last_row(tmp_path, "learns")["eval_return"]) > 300


def test_documented_launcher_runs_jobs(added, tmp_path):
    task = tmp_path / "task.yaml"
    task.write_text("rollout_len: 256\nnum_envs: 4\nnum_iters: 1\n")
    study = (f"--config={task}", "--env_bundle=CartPole", "--num_workers=1", "--deployment=processes")
    started = added("spawner", *study, "--prefix=quick", "--num_seeds=2")
    assert started.returncode == 0, started.stderr
    assert "2 jobs; 2 started" in started.stdout
    finished = {"quick.CartPole-v1.seed00": "finished", "quick.CartPole-v1.seed01": "finished"}
    assert states(added, tmp_path, "quick", until="finished") == finished
    refused = added("spawner", *study, "--prefix=other", "--docker", "--docker_image=some")
    assert (refused.returncode, refused.stderr) == (2, "error: --deployment=processes does not support --docker\n")


def test_documented_launcher_stops_and_resubmits_jobs(added, tmp_path):
    task = tmp_path / "task.yaml"
    task.write_text("rollout_len: 256\nnum_envs: 4\nnum_timesteps: 1e9\n")
    study = (f"--config={task}", "--env_bundle=CartPole", "--num_workers=1", "--deployment=processes")
    assert added("spawner", *study, "--prefix=endless").returncode == 0
    assert states(added, tmp_path, "endless", until="running") == {"endless.CartPole-v1.seed00": "running"}
    stopped = added("spawner", "--stop=endless")
    assert stopped.returncode == 0, stopped.stderr
    assert states(added, tmp_path, "endless", until="stopped") == {"endless.CartPole-v1.seed00": "stopped"}
    assert (tmp_path / "data" / "checkpoints" / "endless.CartPole-v1.seed00" / "last.pt").exists()
    again = added("spawner", "--resubmit=endless")
    assert "1 started" in again.stdout, again.stdout + again.stderr
    assert states(added, tmp_path, "endless", until="running") == {"endless.CartPole-v1.seed00": "running"}
    assert added("spawner", "--stop=endless").returncode == 0


def last_row(tmp_path, name):
    """Return the metrics of a run's last iteration."""
    names, *_, last = (tmp_path / "data" / "logs" / name / "progress.csv").read_text().splitlines()
    return dict(zip(names.split(","), last.split(","), strict=True))


def states(added, tmp_path, study, until, within=500.0):
    """Wait until all jobs of a study are in the state `until`; return the states."""
    deadline = time.monotonic() + within
    while True:
        result = {}
        for path in (tmp_path / "data" / "logs").glob(f"{study}.*/status.json"):
            result[path.parent.name] = json.loads(path.read_text())["state"]
        jobs = json.loads((tmp_path / "data" / "spawn" / study / "study.json").read_text())["jobs"]
        if (len(result) == len(jobs) and set(result.values()) == {until}) or time.monotonic() > deadline:
            return result
        time.sleep(0.2)
