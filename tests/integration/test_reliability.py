"""Runs that are killed, stopped, hanging or failing."""

import os
import re
import signal
import time

import pytest
import torch
import torture

from tests.support.one_run import FOR_EVER, QUICK, SLOW, iterations, status, wait_for


def test_run_whose_worker_was_killed_ends_with_the_same_bits(started, milozero, tmp_path):
    """PPO only; tests/system/test_torture.py covers the other algorithms, and kills at random moments."""
    train = (*SLOW, "--num_iters=30", "--save_frequency=2")
    uninterrupted = milozero(*train, workers=2, data=tmp_path / "uninterrupted")
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    process = started(*train, workers=2)
    wait_for(lambda: len(iterations(tmp_path)) >= 3)
    os.kill(max(torture.find_workers(tmp_path / "data")), signal.SIGKILL)
    process.communicate(timeout=500)
    assert process.returncode != 0
    result = milozero(*train, "--resume", workers=2)
    assert re.search(r"resuming after iteration \d*[02468], bit-exact", result.stdout)
    assert torture.fingerprint(tmp_path / "data") == torture.fingerprint(tmp_path / "uninterrupted")


def test_second_signal_stops_immediately(started, tmp_path):
    flags = [flag for flag in SLOW if "rollout_len" not in flag]
    process = started(*flags, FOR_EVER, "--rollout_len=20000")  # an iteration takes a minute
    wait_for(lambda: (tmp_path / "data/logs/run/status.json").exists())
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # as a launcher that repeats the signal
    time.sleep(2.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    process.communicate(timeout=500)
    assert time.monotonic() - start < 5
    assert process.returncode == 128 + signal.SIGTERM
    assert status(tmp_path)["state"] == "stopped"
    assert not status(tmp_path)["resumable"]


def test_time_limit_stops_a_run_and_resuming_starts_a_new_one(milozero, in_process, tmp_path):
    result = milozero(*SLOW, FOR_EVER, "--execution_time=00:00:04")
    assert result.returncode == 0, result.stderr
    assert "stopped: execution_time of 4 s used up" in result.stdout
    num_iters = iterations(tmp_path)[-1] + 2
    result = in_process(*SLOW, f"--num_iters={num_iters}", "--resume", "--execution_time=00:01:00")
    assert f"finished: num_iters={num_iters} reached" in result.stdout
    assert iterations(tmp_path) == list(range(1, num_iters + 1))


@pytest.mark.parametrize("target", ["mpiexec", "worker"])
def test_mpiexec_passes_sigusr1_on_and_one_workers_sigterm_stops_all(started, tmp_path, target):
    process = started(*SLOW, FOR_EVER, workers=2)
    wait_for(lambda: len(iterations(tmp_path)) >= 2)
    if target == "mpiexec":
        process.send_signal(signal.SIGUSR1)
    else:
        os.kill(max(torture.find_workers(tmp_path / "data")), signal.SIGTERM)
    _, stderr = process.communicate(timeout=500)
    assert process.returncode == 0, stderr
    assert status(tmp_path)["state"] == "stopped"
    assert status(tmp_path)["saved_iteration"] == iterations(tmp_path)[-1]


def test_hanging_simulator_is_named_and_the_job_ends(milozero, tmp_path):
    check_hanging_simulator(milozero, tmp_path, 0)


def check_hanging_simulator(milozero, tmp_path, workers):
    flags = [flag for flag in SLOW if "env_id" not in flag]
    result = milozero(
        *flags, "--env_id=tests.support.user_envs:Hanging-v0", FOR_EVER, "--watchdog=00:00:10", workers=workers
    )
    assert result.returncode != 0
    rank = 1 if workers else 0
    expected = rf"error: iteration \d+ has not ended after \d+ s: worker {rank} hangs in step, user_envs\.py:\d+"
    assert re.search(expected, result.stderr)
    assert status(tmp_path)["state"] == "failed"
    assert "super().step" not in result.stderr  # no traceback


def test_non_finite_loss_ends_all_workers_and_keeps_batch_and_checkpoint(milozero, tmp_path):
    flags = [flag for flag in SLOW if "env_id" not in flag]
    extreme = (
        "--env_id=tests.support.user_envs:Bounded-v0",
        "--p_lr=1e35",
        "--v_lr=1e35",
        "--clip_norm=0",
        "--save_frequency=1",
    )
    result = milozero(*flags, *extreme, "--epochs=3", "--num_iters=20", workers=2)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert re.search(
        r"iteration \d+: (policy_loss|value_loss|entropy|approx_kl|parameter) .*(worker|step within the epoch)", line
    )
    assert status(tmp_path)["state"] == "failed"
    evidence = torch.load(tmp_path / "data/logs/run/non_finite.pt", weights_only=True)
    assert evidence["batch.obs"].shape == (32, 2)
    assert torch.isfinite(evidence["parameters"]).all()


def test_closed_pipe_does_not_end_the_run(started, tmp_path):
    process = started("--task=train", *QUICK, "--uuid=run", "--num_iters=30")
    process.stdout.close()
    process.stderr.close()
    assert process.wait(60) == 0
    assert status(tmp_path)["state"] == "finished"
