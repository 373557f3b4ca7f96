"""Saving changes nothing, with two workers; tests/cli and tests/system have the other cases."""

from milozero.experiment import checkpoint
from tests.support.one_run import assert_equal, logged_rows

QUIET = ("--save_frequency=1000000000", "--eval_frequency=0", "--eval_episodes=0")
BUSY = ("--save_frequency=1", "--eval_frequency=2", "--eval_episodes=1", "--tensorboard")


def check_saving_changes_nothing(milozero, tmp_path, workers, flags):
    small = ("--task=train", "--num_iters=5", "--num_envs=2", "--rollout_len=64", "--batch_size=32")
    for name, options in (("quiet", QUIET), ("busy", BUSY)):
        result = milozero(*small, "--no-compile", *flags, *options, f"--uuid={name}", workers=workers)
        assert result.returncode == 0, result.stderr
    quiet, busy = (checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt") for name in ("quiet", "busy"))
    for content in (quiet, busy):
        for worker in content["workers"]:
            worker.pop("replay", None)  # how the buffer is divided into files depends on when it was saved
    for part in ("agent", "workers", "recent_episodes"):
        assert_equal(busy[part], quiet[part])
    rows = [logged_rows(tmp_path, name) for name in ("quiet", "busy")]
    learned = [[{k: v for k, v in row.items() if "eval_return" not in k} for row in part] for part in rows]
    assert learned[0] == learned[1]
    assert len(learned[0]) == 5


def test_checkpoints_and_evaluations_do_not_change_what_is_learned(milozero, tmp_path):
    check_saving_changes_nothing(milozero, tmp_path, 2, ("--algo=ppo", "--env_id=Hopper"))
