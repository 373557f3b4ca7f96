"""PPO learns small tasks with almost default settings."""

import re

import pytest


@pytest.mark.parametrize(("env_id", "steps", "goal"), [("CartPole", "1e5", 450), ("Pendulum", "3e5", -400)])
def test_small_tasks_are_learned(milozero, env_id, steps, goal):
    changed = ("--gamma=0.9", "--p_lr=1e-3", "--v_lr=1e-3") if env_id == "Pendulum" else ()
    flags = (
        f"--env_id={env_id}",
        f"--num_timesteps={steps}",
        "--batch_size=256",
        "--eval_frequency=0",
        "--no-compile",
    )
    result = milozero("--task=train", *flags, *changed, timeout=200)
    assert result.returncode == 0, result.stderr
    assert float(re.search(r"evaluation return: last (\S+),", result.stdout)[1]) >= goal
