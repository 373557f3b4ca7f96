"""Resuming runs of other processes, which may still be running."""

import csv
import functools

from milozero.experiment import initializer
from milozero.helpers.locks import Lock
from tests.support.one_run import FOR_EVER, QUICK, SLOW, iterations, wait_for


def test_one_worker_resumes_a_run_of_two(milozero, in_process, tmp_path):
    """tests/system/test_torture.py also resumes a run with more workers."""
    train = ("--task=train", *QUICK, "--uuid=run", "--seed=1")
    assert milozero(*train, "--num_iters=3", workers=2).returncode == 0
    result = in_process(*train, "--num_iters=6", "--resume")
    assert result.returncode == 0, result.stderr
    change = "workers 1 (was 2), num_iters 6 (was 3)"
    assert f"resuming after iteration 3, not bit-exact: {change}" in result.stdout
    assert "not bit-exact" in (tmp_path / "data/logs/run/log.txt").read_text()
    rows = list(csv.DictReader((tmp_path / "data/logs/run/progress.csv").read_text().splitlines()))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert int(rows[-1]["timesteps"]) == 3 * 128 * (2 + 1)


def test_two_runs_cannot_share_an_experiment(started, in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(initializer, "Lock", functools.partial(Lock, local_timeout=0.5))
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 1)
    result = in_process(*SLOW, FOR_EVER, "--resume=auto")
    assert result.returncode == 2
    assert f"in use by process {process.pid}" in result.stderr
    assert process.poll() is None
