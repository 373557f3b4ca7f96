"""The experiment `run` that tests share, and its files."""

import csv
import json
import time

import torch

from milozero.experiment import checkpoint
from tests.support.user_envs import SLOW_TRAINING

SLOW = (*SLOW_TRAINING, "--uuid=run")
FOR_EVER = "--num_iters=100000"
QUICK = ("--num_envs=4", "--rollout_len=128", "--epochs=2", "--env_id=CartPole", "--no-compile", "--eval_episodes=1")
PENDULUM = (
    *("--task=train", "--env_id=Pendulum", "--num_envs=4", "--rollout_len=256"),
    *("--no-compile", "--eval_episodes=1"),
)
# a replay buffer that wraps around after 300 steps; 32 updates per 64 steps
OFF_POLICY = (
    *("--learning_starts=128", "--train_freq=32", "--updates_per_step=0.5", "--buffer_size=300", "--batch_size=32"),
    *("--p_perception_stack=mlp_16", "--q_perception_stack=mlp_16"),
)
FAST = ("--num_envs=4", "--rollout_len=256", "--no-compile", "--eval_episodes=2", "--num_iters=4")
ENDLESS = (
    *("--env_id=tests.support.user_envs:Endless-v0", "--num_envs=2", "--rollout_len=64", "--batch_size=64"),
    *("--epochs=1", "--no-compile", "--num_iters=2", "--uuid=x"),
)
ONE = ("--task=train", *ENDLESS, "--num_envs=1", "--eval_episodes=1")
ABORTING = ("--task=train", "--env_id=tests.support.user_envs:Aborting-v0")
# flags of the fixtures `trained` and `run`
TRAINED = ("--task=train", *QUICK, "--uuid=run", "--save_frequency=2", "--num_iters=6")


def status(tmp_path):
    return json.loads((tmp_path / "data/logs/run/status.json").read_text())


def iterations(tmp_path):
    path = tmp_path / "data/logs/run/progress.csv"
    return [int(row["iteration"]) for row in csv.DictReader(path.read_text().splitlines())] if path.exists() else []


def wait_for(condition, seconds=500):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def parameters(tmp_path, name="run"):
    content = checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt")
    return content["agent"]["optimizer"]["parameters"]


def assert_equal(actual, expected):
    """Compare nested dictionaries and lists of tensors and values, bit for bit."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_equal(actual[key], expected[key])
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected)
    else:
        assert actual == expected


def logged_rows(tmp_path, name):
    """Return the rows that a run logged, without timings."""
    text = (tmp_path / f"data/logs/{name}/progress.csv").read_text()
    times = {"seconds", "steps_per_second", "time_left", "updates_per_second"}
    return [{k: v for k, v in row.items() if k not in times} for row in csv.DictReader(text.splitlines())]
