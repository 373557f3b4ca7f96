"""Further signals and failures of running processes; tests/integration/test_reliability.py has the basic ones."""

import re
import signal
import time
from pathlib import Path

import pytest
import torch
import torture

from milozero.experiment import checkpoint
from tests.integration.test_reliability import check_hanging_simulator
from tests.support.one_run import FOR_EVER, PENDULUM, SLOW, iterations, status, wait_for


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signal_ends_a_run_with_a_checkpoint_and_exit_code_0(started, tmp_path, number):
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 2)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=500)
    assert process.returncode == 0, stderr
    assert f"{number.name}: stopping after this iteration" in stderr
    assert "to resume:" in stdout
    final = status(tmp_path)
    last = iterations(tmp_path)[-1]
    assert (final["state"], final["resumable"], final["saved_iteration"]) == ("stopped", True, last)
    assert number.name in final["reason"]
    assert checkpoint.load(tmp_path / "data/checkpoints/run/last.pt")["counters"]["iteration"] == last


def test_signal_during_start_up_takes_effect_later(started, tmp_path):
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: has_handler(process.pid, signal.SIGUSR1))
    process.send_signal(signal.SIGUSR1)
    _, stderr = process.communicate(timeout=500)
    assert process.returncode == 0, stderr
    assert iterations(tmp_path) == [1]


def has_handler(pid, number):
    """Return whether a process has a handler for a signal."""
    mask = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_repeated_signal_does_not_disturb_the_shutdown(started, tmp_path):
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 2)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
    assert process.returncode == 0
    assert status(tmp_path)["state"] == "stopped"


def test_workers_notice_within_an_iteration_that_their_launcher_is_gone(started, tmp_path):
    flags = [flag for flag in SLOW if "rollout_len" not in flag]
    process = started(*flags, FOR_EVER, "--rollout_len=20000", workers=2)  # an iteration takes a minute
    wait_for(lambda: (tmp_path / "data/logs/run/status.json").exists())
    time.sleep(1)
    process.kill()
    process.communicate()  # closes the pipe that the workers write to
    wait_for(lambda: not torture.find_workers(tmp_path / "data"), 30)
    assert status(tmp_path)["reason"] == "the launcher is gone"


def test_non_finite_reward_is_reported_and_keeps_the_checkpoint(milozero, tmp_path):
    flags = ("--env_id=tests.support.user_envs:NonFinite-v0", "--num_iters=50", "--save_frequency=1", "--uuid=nan")
    result = milozero(*PENDULUM, *flags, "--rollout_len=64", "--batch_size=64")
    assert result.returncode == 1
    assert "NaN or infinite reward" in result.stderr
    assert "worker 0: the environment returned" in (tmp_path / "data/logs/nan/log.txt").read_text()
    evidence = torch.load(tmp_path / "data/logs/nan/non_finite.pt", weights_only=True)
    assert torch.isnan(evidence["rewards"]).any()
    assert (tmp_path / "data/checkpoints/nan/last.pt").exists()


def test_infinite_observation_on_one_worker_ends_all_and_keeps_the_checkpoint(milozero, tmp_path):
    flags = (
        "--env_id=tests.support.user_envs:NonFiniteOnOne-v0",
        "--num_iters=50",
        "--save_frequency=1",
        "--uuid=inf",
    )
    result = milozero(*PENDULUM, *flags, "--rollout_len=64", "--batch_size=64", workers=2, timeout=500)
    assert result.returncode == 1
    assert "tests.support.user_envs:NonFiniteOnOne-v0" in result.stderr
    assert "worker 1: the environment returned a NaN or infinite observation (environment" in result.stderr
    assert result.stderr.count("error:") == 1
    counters = checkpoint.load(tmp_path / "data/checkpoints/inf/last.pt")["counters"]
    assert counters["iteration"] >= 1


def test_signal_while_workers_start_ends_them(started, tmp_path):
    process = started(*SLOW, FOR_EVER, "--num_workers=2")
    wait_for(lambda: len(torture.find_workers(tmp_path / "data")) == 3)  # the program and its workers
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=500)
    assert process.returncode == 130
    assert "stopped before the task began" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "data").exists()
    assert not torture.find_workers(tmp_path / "data")


def test_environment_whose_close_hangs_loses_nothing(milozero, tmp_path):
    env = ("--env_id=tests.support.user_envs:HangingClose-v0", "--env_module=tests.support.user_envs")
    flags = ("--num_envs=2", "--rollout_len=32", "--batch_size=32", "--epochs=1", "--no-compile", "--eval_episodes=1")
    result = milozero("--task=train", env[0], *flags, "--num_iters=2", "--uuid=run", timeout=500)
    assert result.returncode == 0, result.stderr
    assert "close() of an environment hangs in close, user_envs.py:" in result.stderr
    assert status(tmp_path)["state"] == "finished"
    assert (tmp_path / "data/logs/run/learning_curve.png").exists()
    path = f"--model_path={tmp_path}/data/checkpoints/run"
    result = milozero("--task=eval", path, env[1], "--num_trajs=1", timeout=500)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/evaluations/run/best/results.json").exists()


def test_hanging_simulator_of_one_of_two_workers_is_named_and_the_job_ends(milozero, tmp_path):
    check_hanging_simulator(milozero, tmp_path, 2)
