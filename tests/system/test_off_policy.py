"""The replay buffer of several workers."""

import functools

from milozero.experiment import checkpoint
from tests.support.one_run import OFF_POLICY, assert_equal, logged_rows


def test_replay_buffer_is_shared_out_if_the_number_of_workers_changes(milozero, tmp_path):
    """Killed and resumed with two workers, which is bit-exact, then with one and with three."""
    train = ("--task=train", "--env_id=Hopper", "--algo=sac", "--num_envs=2", "--rollout_len=64", "--eval_episodes=1")
    flags = (*train, *OFF_POLICY, "--no-compile", "--save_frequency=2", "--sync_check_frequency=1", "--uuid=run")
    for name, ends in (("whole", [5]), ("run", [3, 5])):
        for end in ends:
            more = (f"--num_iters={end}", f"--uuid={name}", "--resume=auto")
            result = milozero(*flags, *more, workers=2)
            assert result.returncode == 0, result.stderr
    whole, parts = (checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt") for name in ("whole", "run"))
    assert_equal(parts["agent"], whole["agent"])
    assert [worker["agent"] for worker in parts["workers"]] == [worker["agent"] for worker in whole["workers"]]
    for end, run in ((6, milozero), (7, functools.partial(milozero, workers=3))):
        result = run(*flags, f"--num_iters={end}", "--resume")
        assert result.returncode == 0, result.stderr
        assert "starts empty" not in result.stderr
    rows = logged_rows(tmp_path, "run")
    assert [bool(row["q_loss"]) for row in rows[2:]] == [True] * 5  # it continues to learn
    replay = {path.name.split("_")[0] for path in (tmp_path / "data/checkpoints/run/replay").iterdir()}
    assert replay == {"rank0", "rank1", "rank2"}
