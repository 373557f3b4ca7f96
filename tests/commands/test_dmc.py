import csv

import imageio.v2
import numpy as np
import pytest

SHORT = ("--num_envs=4", "--rollout_len=256", "--no-compile", "--eval_episodes=1", "--num_iters=3")


@pytest.mark.parametrize("env_id", ["dmc:cheetah-run", "dmc:humanoid-walk", "dmc:quadruped-run", "dmc:dog-run"])
def test_control_suite_trains_and_evaluates_with_a_video(milozero, tmp_path, env_id):
    result = milozero("--task=train", f"--env_id={env_id}", "--uuid=x", *SHORT)
    assert result.returncode == 0, result.stderr
    assert len(list(csv.DictReader((tmp_path / "data/logs/x/progress.csv").open()))) == 3
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    quick = "--env_kwargs=time_limit=0.5"
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", quick, env={"DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (video,) = (tmp_path / "data/evaluations/x").glob("*/*.mp4")
    frames = imageio.v2.mimread(video, memtest=False)
    assert np.std(frames[-1]) > 10
    assert not np.array_equal(frames[0], frames[-1])


def test_missing_renderer_is_one_line_for_the_suite(milozero, tmp_path):
    assert milozero("--task=train", "--env_id=dmc:pendulum-swingup", "--uuid=x", *SHORT).returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", env={"MUJOCO_GL": "nothing", "DISPLAY": ""})
    assert result.returncode == 2
    assert result.stderr.count("error: cannot render here") == 1
    assert len(result.stderr.strip().splitlines()) == 1
