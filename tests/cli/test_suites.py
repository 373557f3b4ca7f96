"""Train, evaluate and record a video with each suite of environments."""

import pytest

from milozero.environments.opensim.suite import TASKS as OPENSIM
from tests.support.suites import SHORT, train_and_record

SUITES = [
    ("CartPole-v1", ""),
    pytest.param("InvertedPendulum", "", marks=pytest.mark.renders),
    pytest.param("dmc:cheetah-run", "time_limit=0.5", marks=pytest.mark.renders),
    ("OsimArm2D-v0", "frame_skip=10"),
]


@pytest.mark.parametrize(("env_id", "shorter"), SUITES)
def test_every_suite_trains_and_evaluates_with_a_video(milozero, tmp_path, env_id, shorter):
    """One task per suite; tests/system/test_suites.py covers more."""
    train_and_record(milozero, tmp_path, env_id, shorter)


def test_order_of_env_kwargs_does_not_matter_when_resuming(milozero):
    one, other = "sutton_barto_reward=true,max_episode_steps=50", "max_episode_steps=50, sutton_barto_reward=true"
    assert milozero(*SHORT, "--env_id=CartPole-v1", f"--env_kwargs={one}").returncode == 0
    more = ("--resume", f"--env_kwargs={other}", "--num_iters=4")
    result = milozero(*SHORT, "--env_id=CartPole-v1", *more)
    assert result.returncode == 0, result.stderr


def test_evaluation_with_invalid_env_kwargs_is_a_one_line_error(milozero, tmp_path):
    assert milozero(*SHORT, "--env_id=Hopper").returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--env_kwargs=reset_noise_scale=loud")
    assert result.returncode == 2
    assert result.stderr.startswith("error: Hopper-v5 cannot be reset with these --env_kwargs")
    assert len(result.stderr.strip().splitlines()) == 1


def test_resuming_with_other_env_kwargs_is_rejected(milozero):
    assert milozero(*SHORT, "--env_id=CartPole-v1").returncode == 0
    result = milozero(*SHORT, "--env_id=CartPole-v1", "--resume", "--env_kwargs=sutton_barto_reward=true")
    assert result.returncode == 2
    assert (
        "--env_kwargs=sutton_barto_reward=true conflicts with the resumed run, which has --env_kwargs=;"
        in result.stderr
    )


def test_list_envs_shows_one_suite(milozero):
    result = milozero("--task=list_envs", "--only=opensim")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines() if "yes" in line] == sorted(OPENSIM)
    assert "opensim 4.6, osim-rl 3.0.11" in result.stdout
    assert result.stderr == ""
