"""What a test runs under the name `run`, and the files of it."""

import csv
import json
import time

from user_envs import SLOW_TRAINING

from helpers import checkpoint

SLOW = (*SLOW_TRAINING, "--uuid=run")
FOR_EVER = "--num_iters=100000"
QUICK = ("--num_envs=4", "--rollout_len=128", "--epochs=2", "--env_id=CartPole", "--no-compile", "--eval_episodes=1")


def status(tmp_path):
    return json.loads((tmp_path / "data/logs/run/status.json").read_text())


def iterations(tmp_path):
    path = tmp_path / "data/logs/run/progress.csv"
    return [int(row["iteration"]) for row in csv.DictReader(path.read_text().splitlines())] if path.exists() else []


def wait_for(condition, seconds=60):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def parameters(tmp_path, name="run"):
    content = checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt")
    return content["agent"]["optimizer"]["parameters"]
