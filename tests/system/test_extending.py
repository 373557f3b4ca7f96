"""What docs/extending.md adds works as it stands there."""

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
# The two programs, with the page's files in their packages and its lines in their tables.
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
    """Write the page's code into a folder that Python looks into; returns how to run the programs with it."""
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
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180)

    yield run
    for record in tmp_path.glob("data/spawn/*/study.json"):  # what a failed test has left at work
        for job in json.loads(record.read_text())["jobs"].values():
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.killpg(int(job["job_id"]), signal.SIGKILL)


def test_environment(added, tmp_path):
    page = (ROOT / "docs" / "environments.md").read_text()
    (tmp_path / "my_envs.py").write_text(re.search(r"```python\n(# my_envs.py\n.*?)```", page, re.DOTALL)[1])
    flags = ("--task=train", "--env_id=my_envs:Reach-v0", "--num_envs=4", "--num_timesteps=4e4", "--uuid=reach")
    trained = added("main", *flags, "--eval_frequency=20", workers=2)
    assert trained.returncode == 0, trained.stderr
    rows = (tmp_path / "data" / "logs" / "reach" / "progress.csv").read_text().splitlines()
    returns = [float(row["return_mean"]) for row in csv.DictReader(rows) if row["return_mean"]]
    assert returns[-1] > 0.5 * returns[0]  # negative: the distance, which has halved
    model = tmp_path / "data" / "checkpoints" / "reach"
    filmed = added(
        "main", "--task=eval", f"--model_path={model}", "--env_module=my_envs", "--num_trajs=1", "--record"
    )
    assert filmed.returncode == 0, filmed.stderr
    assert (tmp_path / "data" / "evaluations" / "reach" / "best" / "episode_000.mp4").stat().st_size > 1000


def test_algorithm(added, tmp_path):
    flags = (
        "--task=train",
        "--algo=vpg",
        "--env_id=CartPole",
        "--rollout_len=512",
        "--num_envs=4",
        "--batch_size=512",
    )
    flags += ("--lr_schedule=constant", "--save_frequency=2")
    whole = added("main", *flags, "--num_iters=4", "--uuid=whole", workers=2)
    assert whole.returncode == 0, whole.stderr
    added("main", *flags, "--num_iters=2", "--uuid=parts", workers=2)
    parts = added("main", *flags, "--num_iters=4", "--uuid=parts", "--resume", workers=2)
    assert parts.returncode == 0, parts.stderr
    once, twice = (last_row(tmp_path, name) for name in ("whole", "parts"))
    assert once["policy_loss"]
    assert "clip_fraction" not in once
    timing = {"seconds", "steps_per_second", "time_left", "best_eval_return"}  # the parts were evaluated once more
    assert {k: v for k, v in once.items() if k not in timing} == {k: v for k, v in twice.items() if k not in timing}
    played = added("main", "--task=eval", f"--model_path={tmp_path}/data/checkpoints/whole", "--num_trajs=2")
    assert played.returncode == 0, played.stderr
    assert "--batch_size" in added("main", "--algo=vpg", "-h").stdout


def test_algorithm_learns(added, tmp_path):
    """CartPole is balanced far longer than by chance (some 20 steps): to the end, 500 steps, by each of 24 seeds.

    What a seed leads to differs between processors, which is why no seed may be a weak one.
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


def test_launcher(added, tmp_path):
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


def test_launcher_stops_its_jobs(added, tmp_path):
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
    """Return what a run logged of its last iteration."""
    names, *_, last = (tmp_path / "data" / "logs" / name / "progress.csv").read_text().splitlines()
    return dict(zip(names.split(","), last.split(","), strict=True))


def states(added, tmp_path, study, until, within=60.0):
    """Return what the jobs of a study have come to, once all of them say `until`."""
    give_up = time.monotonic() + within
    while True:
        found = {}
        for path in (tmp_path / "data" / "logs").glob(f"{study}.*/status.json"):
            found[path.parent.name] = json.loads(path.read_text())["state"]
        jobs = json.loads((tmp_path / "data" / "spawn" / study / "study.json").read_text())["jobs"]
        if (len(found) == len(jobs) and set(found.values()) == {until}) or time.monotonic() > give_up:
            return found
        time.sleep(0.2)
