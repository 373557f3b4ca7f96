"""The event files of `--tensorboard`, read by TensorBoard itself."""

import pytest

from tests.support.fakes import check_events, tabs_in

TINY = (
    "--task=train",
    "--env_id=CartPole-v1",
    "--num_envs=1",
    "--rollout_len=256",
    "--batch_size=64",
    "--no-compile",
)
TINY = (*TINY, "--save_frequency=2", "--eval_frequency=2", "--eval_episodes=1", "--epochs=1", "--uuid=run")


def test_events_equal_progress_csv_even_if_the_run_was_resumed(milozero, tmp_path):
    logs = tmp_path / "data/logs/run"
    assert milozero(*TINY, "--tensorboard", "--num_iters=3").returncode == 0
    assert check_events(logs) == [1, 2, 3]
    hparams, texts = tabs_in(logs / "tensorboard")
    assert (hparams["algo"], hparams["env_id"], hparams["p_lr"], hparams["seed"]) == ("ppo", "CartPole-v1", 3e-4, 0)
    assert not {"uuid", "save_frequency", "expert_path"} & set(hparams)
    assert "| save_frequency | `2` |" in texts["settings"]
    # Simulate a kill: the last checkpoint is of iteration 2, but iteration 3 was logged.
    checkpoints = tmp_path / "data/checkpoints/run"
    for name in ("iter_3.pt", "last.pt"):
        (checkpoints / name).unlink()
    assert milozero("--task=train", "--resume", "--uuid=run", "--num_iters=5").returncode == 0
    assert check_events(logs) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("blocked", [False, True])
def test_training_succeeds_if_tensorboard_logging_fails(milozero, tmp_path, blocked):
    assert milozero(*TINY, "--num_iters=1").returncode == 0
    folder = tmp_path / "data/logs/run/tensorboard"
    assert not folder.exists()
    if blocked:
        folder.write_text("in the way")
    result = milozero("--task=train", "--resume", "--uuid=run", "--tensorboard", "--num_iters=2")
    assert (result.returncode, result.stderr) == (0, "")
    assert ("TensorBoard logging is disabled" in (tmp_path / "data/logs/run/log.txt").read_text()) == blocked
    if not blocked:
        assert check_events(tmp_path / "data/logs/run") == [1, 2]
