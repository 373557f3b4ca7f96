"""The real client of Weights & Biases against a server on loopback."""

import contextlib
import csv
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
import readme
from wandb_server import WandbServer

SMALL = (
    "--env_id=InvertedPendulum",
    "--num_envs=2",
    "--rollout_len=64",
    "--batch_size=32",
    "--eval_frequency=2",
    "--eval_episodes=1",
    "--no-compile",
)
TRAIN = ("--task=train", "--wandb_project=p", "--wandb_entity=me", "--uuid=some.seed00", *SMALL)
QUICK_LIMITS = "import helpers.trackers.wandb as w; w.BEGINS_WITHIN = w.ENDS_WITHIN = 4.0; w.MARGIN = 2.0\n"


@pytest.fixture
def server():
    with WandbServer() as found:
        yield found


def only(server):
    (run,) = server.runs.values()
    return run


def column(data, name, metric):
    rows = csv.DictReader((data / f"logs/{name}/progress.csv").read_text().splitlines())
    return [float(row[metric]) for row in rows if row[metric]]


def test_run_and_its_files_go_up_and_are_evaluated_from_there(server, milozero, tmp_path):
    result = milozero(*TRAIN, "--num_iters=4", "--save_frequency=2", env=server.environment, workers=2)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    run = only(server)
    data = tmp_path / "data"
    assert (run.display_name, run.group, run.state) == ("some.seed00", "some", "finished")
    assert [row["_step"] for row in run.history] == column(data, "some.seed00", "timesteps")
    assert run.rows("policy_loss") == column(data, "some.seed00", "policy_loss")
    assert run.rows("eval_return") == column(data, "some.seed00", "eval_return")
    assert run.config["num_iters"] == {"value": 4}
    for name in ("best.pt", "last.pt", "config.yaml"):
        assert run.files[f"some.seed00/{name}"] == (data / f"checkpoints/some.seed00/{name}").read_bytes()

    # The contract's command, from the README, by the name of the run.
    elsewhere = tmp_path / "elsewhere"
    start = "python main.py --task=eval --wandb_project=SOME_NAME --wandb_run_path"
    _python, _main, *flags = readme.command(start, "$WANDB_RUN_PATH", "me/p/some.seed00")
    assert "--wandb_download_replace" in flags
    result = milozero(*flags, data=elsewhere, env=server.environment)
    assert result.returncode == 0, result.stderr
    downloaded = elsewhere / "downloads/me/p/some.seed00/best.pt"
    assert downloaded.read_bytes() == run.files["some.seed00/best.pt"]
    results = json.loads((elsewhere / "evaluations/some.seed00/best/results.json").read_text())
    assert len(results["episodes"]) == 16
    (evaluation,) = (run for place, run in server.runs.items() if place[1] == "SOME_NAME")
    assert evaluation.rows("return_mean") == [results["return_mean"]]
    assert json.loads(evaluation.files["best/results.json"]) == results


def test_evaluation_shows_its_videos(server, milozero, tmp_path):
    assert milozero("--task=train", "--uuid=some.seed00", *SMALL, "--num_iters=1").returncode == 0
    flags = ("--model_path=data/checkpoints/some.seed00", "--iter_num=last", "--num_trajs=2", "--record")
    result = milozero("--task=eval", *flags, "--wandb_project=p", env=server.environment | {"DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    videos = [content for name, content in only(server).files.items() if name.endswith(".mp4")]
    there = [path.read_bytes() for path in sorted(tmp_path.glob("data/evaluations/*/last/*.mp4"))]
    assert len(there) == 2
    assert sorted(videos) == sorted(there)


def test_resumed_run_is_the_same_run(server, milozero, tmp_path):
    assert milozero(*TRAIN, "--num_iters=2", env=server.environment).returncode == 0
    assert milozero(*TRAIN, "--num_iters=5", "--resume", env=server.environment).returncode == 0
    assert [row["_step"] for row in only(server).history] == column(tmp_path / "data", "some.seed00", "timesteps")
    assert only(server).state == "finished"


def test_without_a_key_nothing_is_asked_of_anybody_and_sync_uploads(server, milozero, tmp_path):
    """Also of a run that went on: two folders, one run. The server would have noticed a request."""
    alone = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "", "HOME": str(tmp_path)}
    for length in ("--num_iters=2", "--num_iters=3"):
        assert milozero(*TRAIN, length, "--resume=auto", env=alone).returncode == 0
    assert server.asked == []
    folders = sorted((tmp_path / "data/wandb").glob("offline-run-*"))
    assert len(folders) == 2
    environment = os.environ | server.environment
    subprocess.run(
        [Path(sys.executable).parent / "wandb", "sync", *folders],
        env=environment,
        check=True,
        timeout=60,
        cwd=tmp_path,
    )
    run = only(server)
    assert run.rows("policy_loss") == column(tmp_path / "data", "some.seed00", "policy_loss")
    assert run.files["some.seed00/last.pt"] == (tmp_path / "data/checkpoints/some.seed00/last.pt").read_bytes()


@pytest.mark.skipif(not shutil.which("tmux"), reason="apt install tmux")
def test_run_that_is_kept_offline_can_be_looked_at_in_the_terminal(milozero, tmp_path):
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


@pytest.mark.parametrize(("fault", "at"), [("silent", "start"), ("breaks", "half-way")])
def test_server_that_fails_never_costs_the_run(server, started, tmp_path, fault, at):
    (tmp_path / "sitecustomize.py").write_text(QUICK_LIMITS)
    path = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent.parent}"}
    server.fault = fault if at == "start" else ""
    process = started(*TRAIN, "--num_iters=40", env=server.environment | path)
    if at == "half-way":
        wait_for(lambda: server.runs)
        server.fault = fault
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    data = tmp_path / "data"
    assert column(data, "some.seed00", "iteration") == list(range(1, 41))
    assert (data / "checkpoints/some.seed00/last.pt").exists()
    kept = [path for path in data.glob("wandb/*run-*/*.wandb") if path.stat().st_size > 2000]
    assert kept, "what was measured is not there for `wandb sync`"


def test_run_that_fails_on_every_worker_is_told_to_have_failed(server, milozero, tmp_path):
    """The first worker still speaks to the server when the others have come to their end."""
    server.slow = 0.5
    result = milozero(*TRAIN, "--p_lr=1e35", env=server.environment, workers=2)
    assert result.returncode == 1
    assert result.stderr.count("error: ") == 1
    assert "finite" in result.stderr
    assert only(server).state == "failed"


@pytest.mark.parametrize("workers", [0, 2])
def test_client_that_is_stuck_does_not_keep_the_program(server, started, tmp_path, workers):
    (tmp_path / "sitecustomize.py").write_text(QUICK_LIMITS)
    path = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent.parent}"}
    long = ("--num_iters=200", "--eval_frequency=0", "--epochs=1")
    process = started(*TRAIN, *long, env=server.environment | path, workers=workers)
    wait_for(lambda: any("file_stream" in asked for asked in server.asked))  # the run has begun
    (core,) = clients_of(process.pid)
    os.kill(core, signal.SIGSTOP)
    stdout, stderr = process.communicate(timeout=120)  # also of the client, which has the same pipe
    assert process.returncode == 0, stderr
    assert (tmp_path / "data/logs/some.seed00/learning_curve.png").exists()
    assert "learning curve:" in stdout
    assert stderr.count("\n") == 1
    assert "warning: Weights & Biases: it has not ended in time; `wandb sync --include-online" in stderr


def test_signal_ends_the_wait_for_the_server_and_nothing_else(server, started, tmp_path):
    process = started(*TRAIN, "--num_iters=200", "--eval_frequency=0", "--epochs=1", env=server.environment)
    wait_for(lambda: server.runs)
    server.fault = "silent"
    for line in process.stdout:
        if line.startswith("waiting for Weights & Biases"):
            break
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert process.returncode == 0
    assert "it has not ended in time" in stderr
    assert (tmp_path / "data/logs/some.seed00/learning_curve.png").exists()
    assert json.loads((tmp_path / "data/logs/some.seed00/status.json").read_text())["state"] == "finished"


def test_what_a_broken_server_did_not_take_goes_up_by_the_command_that_is_said(server, started, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(QUICK_LIMITS)
    path = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent.parent}"}
    process = started(*TRAIN, "--num_iters=200", "--eval_frequency=0", "--epochs=1", env=server.environment | path)
    wait_for(lambda: server.runs)
    server.fault = "breaks"
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    server.fault = ""
    program, *words = shlex.split(re.search("`(wandb sync [^`]*)`", stderr)[1])
    command = [Path(sys.executable).parent / program, *words]
    subprocess.run(command, env=os.environ | server.environment, check=True, timeout=60, cwd=tmp_path)
    assert only(server).rows("policy_loss") == column(tmp_path / "data", "some.seed00", "policy_loss")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_wait_of_an_evaluation(server, milozero, started, number):
    assert milozero("--task=train", "--uuid=some.seed00", *SMALL, "--num_iters=1").returncode == 0
    server.fault = "silent"
    flags = ("--model_path=data/checkpoints/some.seed00", "--iter_num=last", "--num_trajs=1")
    process = started("--task=eval", *flags, "--wandb_project=p", env=server.environment)
    assert any(line.startswith("waiting for Weights & Biases") for line in process.stdout)
    (core,) = clients_of(process.pid)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0
    assert stderr.count("\n") == 1
    assert "it has not ended in time; it had not begun" in stderr
    wait_for(lambda: not Path(f"/proc/{core}").exists())


def test_evaluation_tells_what_the_server_did_not_take(server, milozero):
    assert milozero("--task=train", "--uuid=some.seed00", *SMALL, "--num_iters=1").returncode == 0
    flags = ("--model_path=data/checkpoints/some.seed00", "--iter_num=last", "--num_trajs=1")
    wrong = server.environment | {"WANDB_API_KEY": "f" * 40}
    result = milozero("--task=eval", *flags, "--wandb_project=p", env=wrong)
    assert result.returncode == 0
    assert re.fullmatch("warning: Weights & Biases: .*not logged in.*kept offline.*wandb sync.*\n", result.stderr)


def test_run_that_is_killed_goes_on_without_steps_that_come_twice(server, started, milozero, tmp_path):
    quick = ("--eval_frequency=0", "--epochs=1")
    process = started(*TRAIN, "--num_iters=100000", *quick, env=server.environment)
    wait_for(lambda: server.runs and len(only(server).history) > 30)
    (core,) = clients_of(process.pid)
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not Path(f"/proc/{core}").exists())
    known = [row["_step"] for row in only(server).history]
    # Rows that the client held when it was killed are lost: the summary counts them, the history has them not yet.
    trained = column(tmp_path / "data", "some.seed00", "timesteps")[-1]
    longer = (f"--num_iters={trained // 64 + 20:.0f}", "--resume")
    result = milozero(*TRAIN, *longer, *quick, env=server.environment)
    assert result.returncode == 0, result.stderr
    steps = [row["_step"] for row in only(server).history]
    assert steps[: len(known)] == known
    assert steps == sorted(set(steps))
    there = column(tmp_path / "data", "some.seed00", "timesteps")
    assert set(steps) <= set(there)
    after = [trained + 64 * i for i in range(1, 21)]
    assert there[-20:] == after
    assert [step for step in steps if step > trained] == after


def clients_of(process):
    """Return the ids of the W&B client's own programs that a process, or one that it started, has started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, name, parent = re.match(r"(\d+) \((.*)\) \w (\d+)", stat.read_text(), re.DOTALL).groups()
            parents[int(pid)] = (name, int(parent))

    def descends(pid):
        return pid == process or (pid in parents and descends(parents[pid][1]))

    return [pid for pid, (name, _) in parents.items() if name == "wandb-core" and descends(pid)]


def wait_for(true, seconds=30):
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)
