"""Checks for episodes that cannot end and for workers whose parameters differ."""

import re

import pytest

from milozero.experiment.command_line import parse
from milozero.helpers.comm import Comm
from milozero.helpers.errors import RunError
from milozero.training.checks import check_param_sync, reset_interval, warn_if_truncated


@pytest.mark.parametrize(
    ("flags", "interval", "steps", "remedy"),
    [
        (("--num_envs=64", "--save_frequency=100"), 97, 0, ""),  # 200,000 steps of MuJoCo, not 100 iterations
        (("--num_envs=64", "--save_frequency=4"), 4, 128, "increase --save_frequency or decrease --num_envs"),
        (("--num_envs=512", "--save_frequency=100"), 97, 388, ": decrease --num_envs"),
    ],
)
@pytest.mark.parametrize("env_id", ["Hopper-v5", "dmc:walker-walk"])
def test_warning_about_episodes_that_cannot_end_between_resets(env_id, flags, interval, steps, remedy):
    config = parse([f"--env_id={env_id}", "--rollout_len=2048", *flags]).train
    assert reset_interval(config, {}) == interval
    warning = warn_if_truncated(config, {}, limit=1000)
    assert remedy in warning
    assert (f"every {steps} steps" in warning) == bool(steps)
    assert warn_if_truncated(config, {}, limit=None) == ""


@pytest.mark.parametrize(
    ("task", "env_id"), [("mujoco", "HalfCheetah-v5"), ("mujoco", "Ant-v5"), ("dmc", "dmc:walker-walk")]
)
def test_task_files_let_episodes_end(task, env_id):
    config = parse([f"--config=tasks/train_{task}_ppo.yaml", f"--env_id={env_id}"]).train
    assert warn_if_truncated(config, {}, limit=1000) == ""


class Hashes(Comm):
    """Four workers whose parameters have these checksums."""

    def __init__(self, *values):
        self.values = list(values)

    def allgather(self, value):
        return self.values


class Agent:
    def parameter_hash(self):
        return 5


@pytest.mark.parametrize(("others", "ranks"), [((5, 4, 6), "[2, 3]"), ((9, 5, 5), "[1]")])
def test_workers_whose_parameters_differ_are_named(others, ranks):
    with pytest.raises(RunError, match=re.escape(f"the parameters of rank {ranks} differ")):
        check_param_sync(Agent(), Hashes(5, *others))
    check_param_sync(Agent(), Hashes(5, 5, 5, 5))
