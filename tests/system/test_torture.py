"""Runs that are killed or stopped at random moments; `make torture` does so for hours."""

import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
import torture

from milozero.agents import AGENTS
from tests.support.one_run import FOR_EVER, QUICK, SLOW, iterations, status, wait_for


@pytest.mark.parametrize(
    ("algo", "workers", "how", "each"),
    [
        ("ppo", 1, "SIGUSR1", 1),
        *(("ppo", 2, how, 1) for how in ("the launcher", "SIGUSR1")),
        # one worker where another algorithm's code for several is the same
        *(
            (algo, 1 if algo in ("airl", "bc", "iq", "sqil", "td3") else 2, "a worker", 1)
            for algo in sorted(AGENTS)
            if algo != "ppo"
        ),
    ],
)
def test_killed_and_resumed_run_equals_an_uninterrupted_one(algo, workers, how, each):
    seed = random.SystemRandom().randrange(10**6)
    print(f"moments from seed {seed}")  # shown on failure
    row = torture.torture(
        torture.Case(algo, workers, how), 1, 16, random.Random(seed), each=each, after_save=each == 1
    )
    assert row["equal"] == row["runs"] >= 1
    assert row["resumed_from"]


@pytest.mark.parametrize("victim", [0, 1])
def test_suspended_worker_is_named_and_the_job_ends(started, tmp_path, victim):
    process = started(*SLOW, FOR_EVER, "--watchdog=00:00:10", "--save_frequency=1", workers=2)
    wait_for(lambda: len(iterations(tmp_path)) >= 2)
    pid = next(p for p in torture.find_workers(tmp_path / "data") if rank_of(p) == victim)
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    _, stderr = process.communicate(timeout=500)
    assert 9 < time.monotonic() - start < 40
    assert process.returncode != 0
    assert re.search(rf"error: iteration \d+ has not ended after \d+ s: worker {victim} is not answering", stderr)
    assert not torture.find_workers(tmp_path / "data")
    assert (status(tmp_path)["state"], status(tmp_path)["resumable"]) == ("failed", True)
    assert f"worker {victim} is not answering" in status(tmp_path)["reason"]


def rank_of(pid):
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return int(next(v for v in variables if v.startswith(b"OMPI_COMM_WORLD_RANK=")).split(b"=")[1])


def test_run_can_be_resumed_after_sigterm_to_mpiexec(started, milozero, tmp_path):
    """Open MPI 5 kills its workers after 0.25 s, so the run resumes from an earlier checkpoint."""
    process = started(*SLOW, FOR_EVER, "--save_frequency=2", workers=2)
    wait_for(lambda: len(iterations(tmp_path)) >= 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=500)
    reached = iterations(tmp_path)[-1]
    result = milozero(*SLOW, f"--num_iters={reached + 2}", "--resume", "--save_frequency=2", workers=2)
    assert result.returncode == 0, result.stderr
    assert iterations(tmp_path) == list(range(1, reached + 3))


def test_three_workers_resume_a_run_of_two(milozero, tmp_path):
    train = ("--task=train", *QUICK, "--uuid=run", "--seed=1")
    assert milozero(*train, "--num_iters=3", workers=2).returncode == 0
    result = milozero(*train, "--num_iters=6", "--resume", workers=3)
    assert result.returncode == 0, result.stderr
    assert "not bit-exact: workers 3 (was 2), num_iters 6 (was 3)" in result.stdout
    assert iterations(tmp_path) == [1, 2, 3, 4, 5, 6]
