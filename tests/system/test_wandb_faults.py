"""Runs with the real Weights & Biases client while it or its server fails; each test takes seconds to minutes."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.one_run import wait_for
from tests.support.wandb_runs import QUICK_LIMITS, TRAIN, find_services, only_run, read_column


@pytest.mark.skipif(not shutil.which("tmux"), reason="apt install tmux")
def test_offline_run_can_be_viewed_in_the_terminal(milozero, tmp_path):
    offline = {"WANDB_MODE": "offline", "HOME": str(tmp_path)}
    assert milozero(*TRAIN, "--num_iters=3", env=offline).returncode == 0
    environment = os.environ | {"TMUX_TMPDIR": str(tmp_path), "TERM": "xterm"} | offline
    environment.pop("TMUX", None)
    leet = [Path(sys.executable).parent / "wandb", "leet", tmp_path / "data/wandb"]

    def tmux(*words):
        return subprocess.run(["tmux", *words], env=environment, capture_output=True, text=True).stdout

    tmux("new-session", "-d", "-c", str(tmp_path), "-x", "200", "-y", "60", shlex.join(map(str, leet)))
    try:
        wait_for(lambda: "some.seed00" in (screen := tmux("capture-pane", "-p")) and "policy_loss" in screen)
    finally:
        tmux("kill-server")


def test_run_that_fails_on_every_worker_is_marked_as_failed(server, milozero, tmp_path):
    """The first worker still talks to the server when the others have ended."""
    server.slow = 0.5
    result = milozero(*TRAIN, "--p_lr=1e38", env=server.environment, workers=2)
    assert result.returncode == 1
    assert result.stderr.count("error: ") == 1
    assert "finite" in result.stderr
    assert only_run(server).state == "failed"


@pytest.mark.parametrize("workers", [0, 2])
def test_hanging_client_does_not_keep_the_program_from_exiting(server, started, tmp_path, workers):
    (tmp_path / "sitecustomize.py").write_text(QUICK_LIMITS)
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    long = ("--num_iters=200", "--eval_frequency=0", "--epochs=1")
    process = started(*TRAIN, *long, env=server.environment | path, workers=workers)
    wait_for(lambda: any("file_stream" in request for request in server.requests))  # the run has started
    (core,) = find_services(process.pid)
    os.kill(core, signal.SIGSTOP)
    stdout, stderr = process.communicate(timeout=500)  # the client inherits the same pipe
    assert process.returncode == 0, stderr
    assert (tmp_path / "data/logs/some.seed00/learning_curve.png").exists()
    assert "learning curve:" in stdout
    assert stderr.count("\n") == 1
    assert "warning: Weights & Biases: timed out; upload the rest with `wandb sync --include-online" in stderr


def test_signal_ends_the_wait_for_the_server_only(server, started, tmp_path):
    process = started(*TRAIN, "--num_iters=200", "--eval_frequency=0", "--epochs=1", env=server.environment)
    wait_for(lambda: server.runs)
    server.fault = "silent"
    for line in process.stdout:
        if line.startswith("waiting for Weights & Biases"):
            break
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=500)
    assert time.monotonic() - start < 5
    assert process.returncode == 0
    assert "timed out; " in stderr
    assert (tmp_path / "data/logs/some.seed00/learning_curve.png").exists()
    assert json.loads((tmp_path / "data/logs/some.seed00/status.json").read_text())["state"] == "finished"


def test_printed_command_uploads_what_a_broken_server_missed(server, started, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(QUICK_LIMITS)
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    process = started(*TRAIN, "--num_iters=200", "--eval_frequency=0", "--epochs=1", env=server.environment | path)
    wait_for(lambda: server.runs)
    server.fault = "breaks"
    _, stderr = process.communicate(timeout=500)
    assert process.returncode == 0, stderr
    server.fault = ""
    program, *words = shlex.split(re.search("`(wandb sync [^`]*)`", stderr)[1])
    command = [Path(sys.executable).parent / program, *words]
    subprocess.run(command, env=os.environ | server.environment, check=True, timeout=500, cwd=tmp_path)
    assert only_run(server).rows("policy_loss") == read_column(tmp_path / "data", "some.seed00", "policy_loss")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("run")
def test_signal_ends_the_wait_of_an_evaluation(server, started, number):
    server.fault = "silent"
    flags = ("--model_path=data/checkpoints/run", "--iter_num=last", "--num_trajs=1")
    process = started("--task=eval", *flags, "--wandb_project=p", env=server.environment)
    assert any(line.startswith("waiting for Weights & Biases") for line in process.stdout)
    (core,) = find_services(process.pid)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=500)
    assert process.returncode == 0
    assert stderr.count("\n") == 1
    assert "timed out; the run was not created" in stderr
    wait_for(lambda: not Path(f"/proc/{core}").exists())


def test_killed_run_resumes_without_duplicate_steps(server, started, milozero, tmp_path):
    quick = ("--eval_frequency=0", "--epochs=1")
    process = started(*TRAIN, "--num_iters=100000", *quick, env=server.environment)
    wait_for(lambda: server.runs and len(only_run(server).history) > 30)
    (core,) = find_services(process.pid)
    process.kill()
    process.communicate(timeout=500)
    wait_for(lambda: not Path(f"/proc/{core}").exists())
    known = [row["_step"] for row in only_run(server).history]
    # Rows in the client's buffer are lost in a kill: the summary counts them, the history does not have them.
    trained = read_column(tmp_path / "data", "some.seed00", "timesteps")[-1]
    longer = (f"--num_iters={trained // 64 + 20:.0f}", "--resume")
    result = milozero(*TRAIN, *longer, *quick, env=server.environment)
    assert result.returncode == 0, result.stderr
    steps = [row["_step"] for row in only_run(server).history]
    assert steps[: len(known)] == known
    assert steps == sorted(set(steps))
    steps_in_csv = read_column(tmp_path / "data", "some.seed00", "timesteps")
    assert set(steps) <= set(steps_in_csv)
    after = [trained + 64 * i for i in range(1, 21)]
    assert steps_in_csv[-20:] == after
    assert [step for step in steps if step > trained] == after


@pytest.mark.parametrize(("fault", "at"), [("silent", "start"), ("breaks", "half-way")])
def test_failing_server_never_stops_the_run(server, started, tmp_path, fault, at):
    (tmp_path / "sitecustomize.py").write_text(QUICK_LIMITS)
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    server.fault = fault if at == "start" else ""
    process = started(*TRAIN, "--num_iters=40", env=server.environment | path)
    if at == "half-way":
        wait_for(lambda: server.runs)
        server.fault = fault
    _, stderr = process.communicate(timeout=500)
    assert process.returncode == 0, stderr
    data = tmp_path / "data"
    assert read_column(data, "some.seed00", "iteration") == list(range(1, 41))
    assert (data / "checkpoints/some.seed00/last.pt").exists()
    kept = [path for path in data.glob("wandb/*run-*/*.wandb") if path.stat().st_size > 2000]
    assert kept, "no metrics are left for `wandb sync`"
