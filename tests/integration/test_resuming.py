"""Resuming runs of other processes, which may still be running."""

import csv
import functools

import pytest

from milozero.experiment import checkpoint, initializer
from milozero.helpers.locks import Lock
from tests.support.one_run import FOR_EVER, OFF_POLICY, QUICK, SLOW, assert_equal, iterations, logged_rows, wait_for


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2)])
def test_run_can_be_resumed_with_another_number_of_workers(milozero, in_process, tmp_path, before, after):
    train = ("--task=train", *QUICK, "--uuid=run", "--seed=1")
    first, second = (functools.partial(milozero, workers=n) if n else in_process for n in (before, after))
    assert first(*train, "--num_iters=3").returncode == 0
    result = second(*train, "--num_iters=6", "--resume")
    assert result.returncode == 0, result.stderr
    change = f"workers {after or 1} (was {before or 1}), num_iters 6 (was 3)"
    assert f"resuming after iteration 3, not bit-exact: {change}" in result.stdout
    assert "not bit-exact" in (tmp_path / "data/logs/run/log.txt").read_text()
    rows = list(csv.DictReader((tmp_path / "data/logs/run/progress.csv").read_text().splitlines()))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert int(rows[-1]["timesteps"]) == 3 * 128 * (max(before, 1) + max(after, 1))


def test_two_runs_cannot_share_an_experiment(started, in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(initializer, "Lock", functools.partial(Lock, local_timeout=0.5))
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 1)
    result = in_process(*SLOW, FOR_EVER, "--resume=auto")
    assert result.returncode == 2
    assert f"in use by process {process.pid}" in result.stderr
    assert process.poll() is None


def test_replay_buffer_is_shared_out_if_the_number_of_workers_changes(milozero, in_process, tmp_path):
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
    for end, run in ((6, in_process), (7, functools.partial(milozero, workers=3))):
        result = run(*flags, f"--num_iters={end}", "--resume")
        assert result.returncode == 0, result.stderr
        assert "starts empty" not in result.stderr
    rows = logged_rows(tmp_path, "run")
    assert [bool(row["q_loss"]) for row in rows[2:]] == [True] * 5  # it goes on learning
    replay = {path.name.split("_")[0] for path in (tmp_path / "data/checkpoints/run/replay").iterdir()}
    assert replay == {"rank0", "rank1", "rank2"}
