"""Runs that are killed, stopped, starved and damaged: what a cluster does to them."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from one_run import FOR_EVER, QUICK, SLOW, iterations, status, wait_for

from agents import AGENTS
from helpers import checkpoint

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import torture  # noqa: E402


def can_mount():
    """Return whether a disk can be made here for a test."""
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode == 0
        if made:
            subprocess.run(["umount", folder], check=True)
    return made


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("algo", "workers", "how"),
    [
        *(("ppo", 1, how) for how in ("a worker", "SIGUSR1")),
        *(("ppo", 2, how) for how in ("a worker", "the launcher", "SIGUSR1")),
        *((algo, 2, "a worker") for algo in sorted(AGENTS) if algo != "ppo"),
    ],
)
def test_killed_run_ends_as_one_that_never_was(algo, workers, how):
    seed = random.SystemRandom().randrange(10**6)
    print(f"moments from seed {seed}")  # shown where this fails
    row = torture.torture(torture.Case(algo, workers, how), 1, 24, random.Random(seed))
    assert row["equal"] == row["runs"] >= 1
    assert row["resumed_from"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signal_ends_a_run_with_a_checkpoint_and_exit_code_0(started, tmp_path, number):
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 2)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert f"{number.name}: stopping at the end of this iteration" in stderr
    assert "to go on:" in stdout
    found = status(tmp_path)
    last = iterations(tmp_path)[-1]
    assert (found["state"], found["resumable"], found["saved_iteration"]) == ("stopped", True, last)
    assert number.name in found["reason"]
    assert checkpoint.load(tmp_path / "data/checkpoints/run/last.pt")["counters"]["iteration"] == last


def test_signal_during_start_up_is_kept_for_later(started, tmp_path):
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: catches(process.pid, signal.SIGUSR1))
    process.send_signal(signal.SIGUSR1)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert iterations(tmp_path) == [1]


def catches(pid, number):
    """Return whether a process has a handler for a signal."""
    mask = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_repeated_request_does_not_spoil_the_end(started, tmp_path):
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 2)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
    assert process.returncode == 0
    assert status(tmp_path)["state"] == "stopped"


def test_second_signal_stops_at_once(started, tmp_path):
    flags = [flag for flag in SLOW if "rollout_len" not in flag]
    process = started(*flags, FOR_EVER, "--rollout_len=20000")  # an iteration takes a minute
    wait_for(lambda: (tmp_path / "data/logs/run/status.json").exists())
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # a launcher's repetition of the first
    time.sleep(2.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == 128 + signal.SIGTERM
    assert status(tmp_path)["state"] == "stopped"
    assert not status(tmp_path)["resumable"]


def test_time_limit_stops_a_run_and_resuming_starts_a_new_one(milozero, tmp_path):
    result = milozero(*SLOW, FOR_EVER, "--execution_time=00:00:04")
    assert result.returncode == 0, result.stderr
    assert "stopped: execution_time of 4 s used up" in result.stdout
    enough = iterations(tmp_path)[-1] + 2
    result = milozero(*SLOW, f"--num_iters={enough}", "--resume", "--execution_time=00:01:00")
    assert f"finished: num_iters={enough} reached" in result.stdout
    assert iterations(tmp_path) == list(range(1, enough + 1))


@pytest.mark.parametrize("target", ["mpiexec", "worker"])
def test_mpiexec_passes_sigusr1_on_and_one_workers_sigterm_stops_all(started, tmp_path, target):
    process = started(*SLOW, FOR_EVER, workers=2)
    wait_for(lambda: len(iterations(tmp_path)) >= 2)
    if target == "mpiexec":
        process.send_signal(signal.SIGUSR1)
    else:
        os.kill(max(torture.workers_of(tmp_path / "data")), signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert status(tmp_path)["state"] == "stopped"
    assert status(tmp_path)["saved_iteration"] == iterations(tmp_path)[-1]


def test_sigterm_to_mpiexec_leaves_something_to_resume(started, milozero, tmp_path):
    """Open MPI 5 gives the workers a quarter of a second; what was saved before is enough."""
    process = started(*SLOW, FOR_EVER, "--save_frequency=2", workers=2)
    wait_for(lambda: len(iterations(tmp_path)) >= 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    reached = iterations(tmp_path)[-1]
    result = milozero(*SLOW, f"--num_iters={reached + 2}", "--resume", "--save_frequency=2", workers=2)
    assert result.returncode == 0, result.stderr
    assert iterations(tmp_path) == list(range(1, reached + 3))


def test_workers_notice_within_an_iteration_that_their_launcher_is_gone(started, tmp_path):
    flags = [flag for flag in SLOW if "rollout_len" not in flag]
    process = started(*flags, FOR_EVER, "--rollout_len=20000", workers=2)  # an iteration takes a minute
    wait_for(lambda: (tmp_path / "data/logs/run/status.json").exists())
    time.sleep(1)
    process.kill()
    process.communicate()  # closes what the workers write to
    wait_for(lambda: not torture.workers_of(tmp_path / "data"), 10)
    assert status(tmp_path)["reason"] == "the launcher is gone"


@pytest.mark.parametrize("victim", [0, 1])
def test_stopped_worker_is_named_and_the_job_ends(started, tmp_path, victim):
    process = started(*SLOW, FOR_EVER, "--watchdog=00:00:10", "--save_frequency=1", workers=2)
    wait_for(lambda: len(iterations(tmp_path)) >= 2)
    pid = next(p for p in torture.workers_of(tmp_path / "data") if rank_of(p) == victim)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert 9 < time.monotonic() - began < 40
    assert process.returncode != 0
    assert re.search(rf"error: iteration \d+ has not ended for \d+ s: worker {victim} is not answering", stderr)
    assert not torture.workers_of(tmp_path / "data")
    assert (status(tmp_path)["state"], status(tmp_path)["resumable"]) == ("failed", True)
    assert f"worker {victim} is not answering" in status(tmp_path)["reason"]


def rank_of(pid):
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return int(next(v for v in variables if v.startswith(b"OMPI_COMM_WORLD_RANK=")).split(b"=")[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_hanging_simulator_is_named_and_the_job_ends(milozero, tmp_path, workers):
    flags = [flag for flag in SLOW if "env_id" not in flag]
    result = milozero(*flags, "--env_id=user_envs:Hanging-v0", FOR_EVER, "--watchdog=00:00:10", workers=workers)
    assert result.returncode != 0
    rank = 1 if workers else 0
    wanted = rf"error: iteration \d+ has not ended for \d+ s: worker {rank} hangs in step, user_envs\.py:\d+"
    assert re.search(wanted, result.stderr)
    assert status(tmp_path)["state"] == "failed"
    assert "super().step" not in result.stderr  # no traceback


def test_non_finite_loss_ends_all_workers_and_keeps_batch_and_checkpoint(milozero, tmp_path):
    flags = [flag for flag in SLOW if "env_id" not in flag]
    extreme = ("--env_id=user_envs:Bounded-v0", "--p_lr=1e35", "--v_lr=1e35", "--clip_norm=0", "--save_frequency=1")
    result = milozero(*flags, *extreme, "--epochs=3", "--num_iters=20", workers=2)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert re.search(
        r"iteration \d+: (policy_loss|value_loss|entropy|kl|parameter) .*(worker|arose within the epoch)", line
    )
    assert status(tmp_path)["state"] == "failed"
    evidence = torch.load(tmp_path / "data/logs/run/non_finite.pt", weights_only=True)
    assert evidence["batch.obs"].shape == (32, 2)
    assert torch.isfinite(evidence["parameters"]).all()


@contextlib.contextmanager
def disk(folder, options):
    """Have a disk of its own in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(not can_mount(), reason="makes a small disk, which takes root")
def test_full_disk_is_reported_training_goes_on_and_the_next_save_succeeds(started, tmp_path):
    data = tmp_path / "data"
    with disk(data, "size=3m"):
        process = started("--task=train", *QUICK, "--uuid=run", "--save_frequency=5", FOR_EVER)
        wait_for(lambda: len(iterations(tmp_path)) >= 5)
        fill(data / "filler")
        full_at = len(iterations(tmp_path))
        wait_for(lambda: "not written" in (data / "logs/run/log.txt").read_text() or process.poll() is not None)
        time.sleep(1)
        assert process.poll() is None
        (data / "filler").unlink()
        wait_for(lambda: (status(tmp_path)["saved_iteration"] or 0) > full_at + 5)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 0, stderr
        assert "No space left on device" in stderr
        assert "training goes on, and the next save tries again" in stderr
        assert "Traceback" not in stderr
        assert iterations(tmp_path) == list(range(1, iterations(tmp_path)[-1] + 1))
        checkpoint.load(data / "checkpoints/run/last.pt")


@pytest.mark.skipif(not can_mount(), reason="makes a small disk, which takes root")
def test_full_disk_that_also_takes_the_output_does_not_end_the_run(started, tmp_path):
    data = tmp_path / "data"
    with disk(data, "size=3m"):
        with (data / "out.txt").open("w") as out, (data / "err.txt").open("w") as err:
            quick = ("--task=train", *QUICK, "--uuid=run", "--save_frequency=5", "--eval_frequency=0", FOR_EVER)
            process = started(*quick, stdout=out, stderr=err)
        wait_for(lambda: len(iterations(tmp_path)) >= 5)
        fill(data / "filler")
        time.sleep(4)
        assert process.poll() is None
        (data / "filler").unlink()
        reached = len(iterations(tmp_path))
        wait_for(lambda: (status(tmp_path)["saved_iteration"] or 0) > reached)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.returncode == 0
        assert iterations(tmp_path) == list(range(1, iterations(tmp_path)[-1] + 1))


def test_closed_pipe_does_not_end_the_run(started, tmp_path):
    process = started("--task=train", *QUICK, "--uuid=run", "--num_iters=30")
    process.stdout.close()
    process.stderr.close()
    assert process.wait(60) == 0
    assert status(tmp_path)["state"] == "finished"


def fill(path):
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


@pytest.mark.skipif(not can_mount(), reason="makes a disk read-only, which takes root")
def test_read_only_folder_at_the_end_is_an_exit_code_that_is_not_0(started, tmp_path):
    data = tmp_path / "data"
    process = started("--task=train", *QUICK, "--uuid=run", "--save_frequency=5", FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 6)
    with disk(data / "checkpoints/run", "ro"):
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 1
        assert re.search(r"error: the last checkpoint of iteration \d+ not written: Read-only file system", stderr)
        assert "Traceback" not in stderr
        assert status(tmp_path)["state"] == "failed"
    assert checkpoint.available(data / "checkpoints/run")[-1] == "last"
