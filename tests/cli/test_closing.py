"""Environments are closed, also if only one can exist or the run fails."""

import numpy as np
import pytest

from milozero.tracking.csv import read_progress
from tests.support import user_envs
from tests.support.one_run import ONE


@pytest.mark.parametrize("name", ["Counted", "Single"])
def test_environments_are_closed_before_others_open_and_at_the_end(milozero, tmp_path, name):
    env = getattr(user_envs, name)
    result = milozero(*ONE, f"--env_id=tests.support.user_envs:{name}-v0", "--eval_frequency=1")
    assert result.returncode == 0, result.stderr
    assert ("the run is evaluated only at its end" in result.stdout) == (name == "Single")
    returns = read_progress(tmp_path / "data/logs/x/progress.csv")["eval_return"]
    assert np.isfinite(returns).tolist() == [name == "Counted", True]
    assert env.num_open == 0
    result = milozero("--task=eval", f"--model_path={tmp_path}/data/checkpoints/x", "--num_trajs=1")
    assert result.returncode == 0, result.stderr
    assert env.num_open == 0


def test_expert_is_loaded_where_only_one_environment_can_exist(milozero):
    single = (*ONE, "--env_id=tests.support.user_envs:Single-v0", "--uuid=expert")
    assert milozero(*single).returncode == 0
    result = milozero(*single, "--algo=dagger", "--expert_model=data/checkpoints/expert", "--uuid=clone")
    assert result.returncode == 0, result.stderr
    assert user_envs.Single.num_open == 0


def test_more_environments_than_can_exist_are_a_one_line_error(milozero, tmp_path):
    result = milozero(*ONE, "--env_id=tests.support.user_envs:Single-v0", "--num_envs=2")
    assert result.returncode == 2
    assert "only 1 of --num_envs=2 environments can exist at a time: the port is in use" in result.stderr
    assert user_envs.Single.num_open == 0
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("broken", ["step", "reset", "close"])
@pytest.mark.parametrize("task", ["train", "eval"])
def test_environments_of_a_failed_run_are_closed(milozero, tmp_path, monkeypatch, task, broken):
    flags = {
        "train": (*ONE, "--env_id=tests.support.user_envs:Counted-v0"),
        "eval": ("--task=eval", f"--model_path={tmp_path}/data/checkpoints/x", "--num_trajs=1"),
    }
    if task == "eval":
        assert milozero(*flags["train"]).returncode == 0
    intact = getattr(user_envs.Counted, broken)

    def fail(env, *args, **kwargs):
        intact(env, *args, **kwargs)
        raise RuntimeError("broken")

    monkeypatch.setattr(user_envs.Counted, broken, fail)
    result = milozero(*flags[task])
    before_the_run = broken == "reset" or task == "train"  # the check steps the environment before training
    assert result.returncode == (0 if broken == "close" else 2 if before_the_run else 1)
    assert "broken" in result.stderr
    assert user_envs.Counted.num_open == 0
