"""Environment suites in separate processes: with two workers, without a renderer, with a user's environment."""

import json

from tests.support.suites import SHORT


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


def test_missing_renderer_is_one_line_for_the_suite(milozero, in_process, tmp_path):
    assert in_process(*SHORT, "--env_id=dmc:pendulum-swingup").returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", env={"MUJOCO_GL": "nothing", "DISPLAY": ""})
    assert result.returncode == 2
    assert result.stderr.count("error: cannot render") == 1
    assert len(result.stderr.strip().splitlines()) == 1
