"""PPO learns small tasks with almost default settings."""

import re

import pytest

from milozero.tracking.csv import read_progress


@pytest.mark.parametrize(("env_id", "steps", "goal"), [("CartPole", "1e5", 450), ("Pendulum", "1e5", -400)])
def test_small_tasks_are_learned(milozero, env_id, steps, goal):
    pendulum = ("--gamma=0.9", "--p_lr=1e-3", "--v_lr=1e-3", "--num_envs=4", "--rollout_len=2048", "--batch_size=128")
    changed = pendulum if env_id == "Pendulum" else ("--batch_size=256",)
    flags = (f"--env_id={env_id}", f"--num_timesteps={steps}", "--eval_frequency=0", "--no-compile")
    result = milozero("--task=train", *flags, *changed, timeout=500)
    assert result.returncode == 0, result.stderr
    assert float(re.search(r"evaluation return: last (\S+),", result.stdout)[1]) >= goal


@pytest.mark.parametrize(("low", "high"), [(-0.01, 0.01), (5, 10), (100, 300)])
def test_bounds_of_actions_make_no_difference(milozero, tmp_path, low, high):
    flags = (f"--env_kwargs=low={low},high={high}", "--num_timesteps=1e4", "--rollout_len=512", "--log_std_init=-1")
    env = "--env_id=tests.support.user_envs:Target-v0"
    result = milozero("--task=train", env, *flags, "--eval_frequency=0", "--no-compile", "--uuid=run")
    assert result.returncode == 0, result.stderr
    last = read_progress(tmp_path / "data/logs/run/progress.csv")["eval_return"][-1]
    assert last >= -0.02  # 0 is perfect, -0.25 the middle of the bounds
