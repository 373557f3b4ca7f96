"""Train, evaluate and record a video of an environment: the same checks for every suite."""

import csv

import imageio.v2
import numpy as np

from milozero import environments

SHORT = (
    *("--task=train", "--uuid=x", "--num_envs=2", "--rollout_len=64", "--batch_size=32", "--epochs=1"),
    *("--no-compile", "--eval_episodes=1", "--num_iters=3"),
)


def train_and_record(milozero, tmp_path, env_id, shorter):
    """Train and evaluate on an environment with a video; check that something moves in the video.

    Args:
        milozero: fixture that calls or runs main.py.
        tmp_path: parent of its data folder.
        env_id: id of the environment.
        shorter: --env_kwargs that shorten the episode in the video.
    """
    result = milozero(*SHORT, f"--env_id={env_id}")
    assert result.returncode == 0, result.stderr
    assert len(list(csv.DictReader((tmp_path / "data/logs/x/progress.csv").open()))) == 3
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    options = ("--num_trajs=1", "--record", f"--env_kwargs={shorter}")
    result = milozero("--task=eval", path, *options, env={"DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (video,) = (tmp_path / "data/evaluations/x").glob("*/*.mp4")
    frames = np.array(imageio.v2.mimread(video, memtest=False), int)
    middle = frames[:, 40:]  # without the text at the top of OpenSim's frames
    moved = np.abs(middle[-1] - middle[0]).max(axis=-1) > 60
    assert moved.sum() > 20
    assert len(np.unique(middle[-1].reshape(-1, 3) // 32, axis=0)) > 3


def make_unwrapped(env_id, **kwargs):
    return environments.make_env(env_id, None, kwargs).unwrapped
