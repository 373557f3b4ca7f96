"""Resuming runs of other processes, which may still be running."""

import csv
import functools

import pytest

from milozero.experiment import initializer
from milozero.helpers.locks import Lock
from tests.support.one_run import FOR_EVER, QUICK, SLOW, iterations, wait_for


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
