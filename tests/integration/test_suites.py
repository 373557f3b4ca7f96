"""Environment suites in separate processes: without a renderer, with a user's environment."""

from tests.support.suites import SHORT


def test_missing_renderer_is_one_line_for_the_suite(milozero, in_process, tmp_path):
    assert in_process(*SHORT, "--env_id=dmc:pendulum-swingup").returncode == 0
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    result = milozero("--task=eval", path, "--num_trajs=1", "--record", env={"MUJOCO_GL": "nothing", "DISPLAY": ""})
    assert result.returncode == 2
    assert result.stderr.count("error: cannot render") == 1
    assert len(result.stderr.strip().splitlines()) == 1
