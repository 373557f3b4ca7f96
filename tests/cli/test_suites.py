"""Every suite of environments as a user meets it: train, evaluate, film."""

import pytest

from milozero.environments.opensim.suite import TASKS as OPENSIM
from tests.support.suites import SHORT, train_and_film

SUITES = [
    ("CartPole-v1", ""),
    pytest.param("InvertedPendulum", "", marks=pytest.mark.renders),
    pytest.param("dmc:cheetah-run", "time_limit=0.3", marks=pytest.mark.renders),
    ("OsimArm2D-v0", "frame_skip=10"),
]


@pytest.mark.parametrize(("env_id", "shorter"), SUITES)
def test_every_suite_trains_and_evaluates_with_a_video(milozero, tmp_path, env_id, shorter):
    """One task of each; tests/system/test_suites.py has more."""
    train_and_film(milozero, tmp_path, env_id, shorter)


def test_the_same_settings_in_another_order_are_the_same_run(milozero):
    one, other = "sutton_barto_reward=true,max_episode_steps=50", "max_episode_steps=50, sutton_barto_reward=true"
    assert milozero(*SHORT, "--env_id=CartPole-v1", f"--env_kwargs={one}").returncode == 0
    more = ("--resume", f"--env_kwargs={other}", "--num_iters=4")
    result = milozero(*SHORT, "--env_id=CartPole-v1", *more)
    assert result.returncode == 0, result.stderr


def test_evaluation_with_what_the_environment_does_not_take_is_one_line(milozero, tmp_path):
    assert milozero(*SHORT, "--env_id=Hopper").returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--env_kwargs=reset_noise_scale=loud")
    assert result.returncode == 2
    assert result.stderr.startswith("error: Hopper-v5 does not start with these --env_kwargs")
    assert len(result.stderr.strip().splitlines()) == 1


def test_other_settings_of_the_environment_than_the_resumed_run_has_are_refused(milozero):
    assert milozero(*SHORT, "--env_id=CartPole-v1").returncode == 0
    result = milozero(*SHORT, "--env_id=CartPole-v1", "--resume", "--env_kwargs=sutton_barto_reward=true")
    assert result.returncode == 2
    assert (
        "--env_kwargs=sutton_barto_reward=true conflicts with the resumed run, which has --env_kwargs=;"
        in result.stderr
    )


def test_list_of_one_family(milozero):
    result = milozero("--task=list_envs", "--only=opensim")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines() if "yes" in line] == sorted(OPENSIM)
    assert "opensim 4.6, osim-rl 3.0.11" in result.stdout
    assert result.stderr == ""
