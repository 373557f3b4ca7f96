"""Train, evaluate and record a video on more tasks of each environment suite."""

import json

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


def test_two_workers_train_in_sync_on_the_real_simulator(milozero, in_process, tmp_path):
    short = (*SHORT, "--rollout_len=16", "--batch_size=8", "--sync_check_frequency=1")
    result = milozero(*short, "--env_id=OsimArm2D", "--env_kwargs=frame_skip=10", workers=2)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "opensim.log").exists()
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    options = "--env_kwargs=preset=accurate"  # in addition to the training run's frame skip
    result = in_process("--task=eval", path, "--iter_num=last", "--num_trajs=1", options)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "data/evaluations/x/last/results.json").read_text())
    assert results["env_kwargs"] == "frame_skip=10,preset=accurate"
    assert results["length_mean"] == 20


def test_opensim_videos_need_no_opengl(milozero, tmp_path):
    assert milozero(*SHORT, "--env_id=OsimArm2D", "--env_kwargs=frame_skip=10").returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", env={"MUJOCO_GL": "nothing", "DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/evaluations/x/best/episode_000.mp4").exists()


@pytest.mark.renders
def test_users_mujoco_environment_is_recorded_without_a_display(milozero, tmp_path):
    assert milozero(*SHORT, "--env_id=tests.support.user_mujoco:Drawn-v0").returncode == 0
    flags = (f"--model_path={tmp_path}/data/checkpoints/x", "--env_module=tests.support.user_mujoco")
    result = milozero("--task=eval", *flags, "--num_trajs=1", "--record", env={"DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/evaluations/x/best/episode_000.mp4").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_missing_renderer_is_one_line_and_evaluation_without_video_works(milozero, in_process, tmp_path, workers):
    assert in_process(*SHORT, "--env_id=Hopper").returncode == 0
    flags = ("--task=eval", f"--model_path={tmp_path}/data/checkpoints/x", "--num_trajs=1")
    unrenderable = {"MUJOCO_GL": "nothing", "DISPLAY": ""}
    result = milozero(*flags, "--record", workers=workers, env=unrenderable, timeout=500, data=tmp_path / "other")
    assert result.returncode == 2
    assert result.stderr.count("error: cannot render") == 1
    assert not (tmp_path / "other").exists()
    without = milozero(*flags, workers=workers, env={"DISPLAY": ""})
    assert without.returncode == 0, without.stderr


def test_invalid_renderer_is_one_line_even_without_video(milozero, tmp_path):
    result = milozero("--task=train", "--env_id=Hopper", "--num_iters=1", env={"MUJOCO_GL": "nothing"}, timeout=500)
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot make Hopper-v5: MUJOCO_GL=nothing: invalid value")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()
