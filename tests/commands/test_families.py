"""Every family as a user meets it: train, evaluate, film; and with two workers."""

import csv
import json

import imageio.v2
import numpy as np
import pytest

from environments.opensim import TASKS as OPENSIM

SHORT = (
    *("--task=train", "--uuid=x", "--num_envs=2", "--rollout_len=64", "--batch_size=32", "--epochs=1"),
    *("--no-compile", "--eval_episodes=1", "--num_iters=3"),
)
IDS = {
    **dict.fromkeys(("Hopper-v3", "Hopper-v4", "Humanoid-v5", "Pusher", "CartPole-v1"), ""),
    **dict.fromkeys(("dmc:cheetah-run", "dmc:humanoid-walk", "dmc:quadruped-run", "dmc:dog-run"), "time_limit=1"),
    **dict.fromkeys(OPENSIM, "frame_skip=10"),
}


@pytest.mark.parametrize("env_id", IDS)
def test_it_trains_and_evaluates_with_a_video(milozero, tmp_path, env_id):
    result = milozero(*SHORT, f"--env_id={env_id}")
    assert result.returncode == 0, result.stderr
    assert len(list(csv.DictReader((tmp_path / "data/logs/x/progress.csv").open()))) == 3
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    shorter = f"--env_kwargs={IDS[env_id]}"  # than the whole episode, or in fewer frames
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", shorter, env={"DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (video,) = (tmp_path / "data/evaluations/x").glob("*/*.mp4")
    frames = np.array(imageio.v2.mimread(video, memtest=False), int)
    middle = frames[:, 40:]  # without what OpenSim's pictures write above
    moved = np.abs(middle[-1] - middle[0]).max(axis=-1) > 60
    assert moved.sum() > 20
    assert len(np.unique(middle[-1].reshape(-1, 3) // 32, axis=0)) > 3


def test_two_workers_learn_on_the_real_simulator_and_agree(milozero, tmp_path):
    result = milozero(*SHORT, "--env_id=OsimArm2D", "--env_kwargs=frame_skip=10", "--hash_frequency=1", workers=2)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "opensim.log").exists()
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    how = "--env_kwargs=preset=accurate"  # on top of the frame skip that it was trained with
    result = milozero("--task=eval", path, "--iter_num=last", "--num_trajs=1", how)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "data/evaluations/x/last/results.json").read_text())
    assert results["env_kwargs"] == "frame_skip=10,preset=accurate"
    assert results["length_mean"] == 20


def test_missing_renderer_is_one_line_for_the_suite(milozero, tmp_path):
    assert milozero(*SHORT, "--env_id=dmc:pendulum-swingup").returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", env={"MUJOCO_GL": "nothing", "DISPLAY": ""})
    assert result.returncode == 2
    assert result.stderr.count("error: cannot render here") == 1
    assert len(result.stderr.strip().splitlines()) == 1


def test_pictures_that_need_no_opengl_do_without(milozero, tmp_path):
    assert milozero(*SHORT, "--env_id=OsimArm2D", "--env_kwargs=frame_skip=10").returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", env={"MUJOCO_GL": "nothing", "DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/evaluations/x/best/episode_000.mp4").exists()


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


def test_users_environment_that_draws_with_mujoco_is_filmed_without_a_display(milozero, tmp_path):
    assert milozero(*SHORT, "--env_id=user_mujoco:Drawn-v0").returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", env={"DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/evaluations/x/best/episode_000.mp4").exists()


def test_other_settings_of_the_environment_than_the_resumed_run_has_are_refused(milozero):
    assert milozero(*SHORT, "--env_id=CartPole-v1").returncode == 0
    result = milozero(*SHORT, "--env_id=CartPole-v1", "--resume", "--env_kwargs=sutton_barto_reward=true")
    assert result.returncode == 2
    assert "--env_kwargs=sutton_barto_reward=true, but the run that is resumed has" in result.stderr


def test_list_of_one_family(milozero):
    result = milozero("--task=list_envs", "--only=opensim")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines() if "yes" in line] == sorted(OPENSIM)
    assert "opensim 4.6, osim-rl 3.0.11" in result.stdout
    assert result.stderr == ""
