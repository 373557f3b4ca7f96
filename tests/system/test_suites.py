"""Train, evaluate and record a video on more tasks of each environment suite."""

import pytest

from milozero.environments.opensim.suite import TASKS as OPENSIM
from tests.support.suites import SHORT, train_and_record

IDS = {
    **dict.fromkeys(("Hopper-v3", "Hopper-v4", "Humanoid-v5", "Pusher"), ""),
    **dict.fromkeys(("dmc:humanoid-walk", "dmc:quadruped-run", "dmc:dog-run"), "time_limit=1"),
    **dict.fromkeys(set(OPENSIM) - {"OsimArm2D-v0"}, "frame_skip=10"),
}


@pytest.mark.renders
@pytest.mark.parametrize(("env_id", "shorter"), sorted(IDS.items()))
def test_task_trains_and_evaluates_with_a_video(in_process, tmp_path, env_id, shorter):
    """The tasks that tests/cli/test_suites.py does not cover."""
    train_and_record(in_process, tmp_path, env_id, shorter)


def test_opensim_videos_need_no_opengl(milozero, tmp_path):
    assert milozero(*SHORT, "--env_id=OsimArm2D", "--env_kwargs=frame_skip=10").returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", env={"MUJOCO_GL": "nothing", "DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/evaluations/x/best/episode_000.mp4").exists()
