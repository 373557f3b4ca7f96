"""Studies in a real tmux server: closed windows, containers, conda, several studies at once."""

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

from tests.support import ROOT, readme
from tests.support.one_run import wait_for
from tests.support.tmux import CORES, ENDLESS, is_running, panes, tmux, windows

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="apt install tmux")
DOCKER = """#!{python}
import os, subprocess, sys

words = sys.argv[1:]
if words[0] == "version":
    sys.exit()
image = words.index("docker_user/milozero:mujoco")
options, command = words[:image], words[image + 1 :]
open("{folder}/docker.log", "a").write(repr(options) + "\\n")
passed = [options[i + 1] for i, word in enumerate(options) if word == "-e"]
inside = dict(pair.split("=", 1) for pair in passed if "=" in pair)
inside |= {{name: os.environ[name] for name in passed if name in os.environ}}
inside |= {{"PATH": "{bin}:/usr/bin:/bin", "HOME": "{folder}"}}
folders = dict(pair.rsplit(":", 1)[::-1] for i, pair in enumerate(options) if options[i - 1] == "-v")
os.chdir(folders[options[options.index("-w") + 1]])
open("{folder}/wandb.log", "a").write(inside.get("WANDB_BASE_URL", "") + inside.get("WANDB_API_KEY", "") + "\\n")
sys.exit(subprocess.run(command, env=inside).returncode)
"""
CONDA = """#!/bin/bash
if [ "$1 $2" = "env list" ]; then echo '{{"envs": ["/opt/conda", "/opt/conda/envs/py torch"]}}'; exit; fi
if [ "$1 $2" = "shell.bash hook" ]; then
  echo 'conda() {{ export CONDA_DEFAULT_ENV="$2" PATH={bin}:$PATH; }}'
fi
"""


def test_jobs_run_in_order_and_are_not_started_twice(studies):
    """The study's name has characters that are special to a shell, tmux or its formats."""
    name = """it's #(touch x) $(touch y) `touch z` "a.b";"""
    command = (studies.task("num_iters: 3\n"), f"--prefix={name}", f"--num_workers={CORES}")
    assert "2 jobs; 2 started" in studies.run(*command)
    jobs = {f"{name}.{env_id}.seed00" for env_id in ("InvertedPendulum-v5", "Hopper-v5")}
    assert set(windows(studies)) == jobs
    max_running, order = 0, []
    while {"pending", "running"} & set((states := studies.states(name)).values()):
        assert set(states) == jobs
        time.sleep(0.05)
        max_running = max(max_running, list(states.values()).count("running"))
        order += [job for job, state in states.items() if state == "running" and job not in order]
    assert max_running == 1  # each takes all cores
    assert order == [job for job in states if job in order]
    assert set(states.values()) == {"finished"}
    wait_for(lambda: windows(studies) == dict.fromkeys(jobs, "0"))
    screen = tmux(studies, "capture-pane", "-p", "-t", panes(studies)[0])
    assert "finished: num_iters=3 reached" in screen
    assert "exit code 0" in screen
    assert "Pane is dead (status 0" in screen
    assert "2 jobs; 0 started, 2 already finished" in studies.run(*command)
    assert windows(studies) == dict.fromkeys(jobs, "0")
    assert not {"x", "y", "z"} & {path.name for folder in (studies.folder, ROOT) for path in folder.iterdir()}


@pytest.mark.parametrize("how", ["kill-server", "SIGKILL", "Ctrl-C"])
def test_job_stops_with_its_window(studies, how):
    studies.run(studies.task(ENDLESS), "--prefix=s", "--num_workers=1")
    states = studies.wait("s", is_running)
    job = next(name for name, state in states.items() if state == "running")
    wait_for(lambda: (studies.data / f"logs/{job}/progress.csv").exists())
    if how == "kill-server":
        tmux(studies, "kill-server")
    if how == "SIGKILL":
        pids = tmux(studies, "list-panes", "-a", "-F", "#{pane_pid}").split()
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
    if how == "Ctrl-C":
        for pane in panes(studies):
            tmux(studies, "send-keys", "-t", pane, "C-c")
    studies.wait("s", lambda states: set(states.values()) <= {"stopped", "failed"})
    wait_for(lambda: len([words for words in studies.processes() if "main.py" in words]) == 0)
    assert (studies.data / f"checkpoints/{job}/last.pt").exists()


def test_two_studies_share_the_cores(studies):
    """Each job needs all cores, so only one runs at a time."""
    task = studies.task("num_iters: 20\n")
    for name in ("a", "b"):
        studies.run(task, f"--prefix={name}", f"--num_workers={CORES}")
    deadline = time.monotonic() + 500
    while True:
        time.sleep(0.05)
        before, other, after = (studies.states(name) for name in ("a", "b", "a"))
        # Reading states takes time: a job that runs before and after the other study is read also runs in between.
        running = [job for job in after if before[job] == after[job] == "running"]
        running += [job for job in other if other[job] == "running"]
        assert len(running) <= 1
        states = [*other.values(), *after.values()]
        if not {"pending", "running"} & set(states):
            break
        assert time.monotonic() < deadline
    assert states == ["finished"] * 4


def test_contracts_example_runs_as_written(studies, tmp_path):
    """The command of docs/studies.md with names filled in, shorter runs, and a fake docker that runs it here."""
    words = readme.command("python spawner.py --config tasks/train_mujoco_ppo.yaml --env_bundle debug", "", "")
    for name, value in (("BASE_URL", "http://127.0.0.1:9"), ("API_KEY", "VERYSECRET"), ("ENTITY", "me")):
        words[words.index(f"[YOUR_WANDB_{name}]")] = value
    assert "--docker" in words
    programs = tmp_path / "programs"
    programs.mkdir()
    # keeps the test from changing the installed packages
    (programs / "pip").write_text(f"#!/bin/sh\necho pip $* >>{shlex.quote(str(tmp_path))}/pip.log\n")
    docker = DOCKER.format(python=sys.executable, folder=tmp_path, bin=f"{programs}:{Path(sys.executable).parent}")
    (programs / "docker").write_text(docker)
    for program in programs.iterdir():
        program.chmod(0o755)
    short = tmp_path / "short.yaml"
    short.write_text((ROOT / "tasks/train_mujoco_ppo.yaml").read_text().replace("1e6", "2000"))
    words = [str(short) if word == "tasks/train_mujoco_ppo.yaml" else word for word in words]
    studies.env |= {"PATH": f"{programs}:{os.environ['PATH']}", "WANDB_MODE": "disabled"}
    assert "6 jobs; 6 started" in studies.run(*words[2:])
    states = studies.wait_for_end("study")
    assert list(states.values()) == ["finished"] * 6, studies.outputs("study")
    used = (tmp_path / "docker.log").read_text().splitlines()
    assert len(used) == 6
    assert "VERYSECRET" not in "".join(used)
    assert (tmp_path / "wandb.log").read_text().split() == ["http://127.0.0.1:9VERYSECRET"] * 6
    assert (tmp_path / "pip.log").read_text().count("--upgrade wandb") == 6
    wait_for(lambda: not list(studies.files("study").glob("*.sh")))


def test_conda_environment_is_activated(studies, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "conda").write_text(CONDA.format(bin=Path(sys.executable).parent))
    (programs / "conda").chmod(0o755)
    studies.env |= {"PATH": f"{programs}:/usr/bin:/bin"}
    task = studies.task("num_iters: 1\n")
    error = studies.run(task, "--conda_env=pytorch", fails=True)
    assert "--conda_env=pytorch: no such environment; did you mean 'py torch'?" in error
    studies.run(task, "--conda_env=py torch", "--num_workers=1")
    assert set(studies.wait_for_end("study").values()) == {"finished"}, studies.outputs("study")


def test_wandb_is_upgraded_before_jobs_start(studies):
    """Without an index, pip treats the installed version as the newest."""
    task = studies.task("num_iters: 1\n")
    output = studies.run(task, "--wandb_upgrade", "--num_workers=1", PIP_NO_INDEX="1")
    assert output.splitlines()[0] == "upgrading wandb"
    studies.wait_for_end("study")
    error = studies.run(task, "--wandb_upgrade", "--prefix=other", fails=True, PIP_PYTHON="/nowhere")
    assert "--wandb_upgrade: " in error
    assert not list(studies.files("other").glob("*"))


def test_sessions_of_other_studies_and_of_the_user_are_left_alone(studies):
    """Two data folders, two study names that are equal for tmux, and a session of the user."""
    tmux(studies, "new-session", "-d", "-s", "a_b", "cat")
    task = studies.task(ENDLESS)
    other_data = f"--data_dir={studies.folder}/o"
    flags = ("--num_workers=1", "--env_bundle=InvertedPendulum")
    studies.run(task, "--prefix=a_b", *flags)
    studies.run(task, "--prefix=a.b", *flags)
    assert "attach -t =a_b-4" in studies.run(task, "--prefix=a.b", *flags, other_data)
    sessions = tmux(studies, "list-sessions", "-F", "#{session_name}").split()
    assert sorted(sessions) == ["a_b", "a_b-2", "a_b-3", "a_b-4"]
    studies.run("--stop=a.b")
    assert "running" in studies.states("a_b").values()
    sessions = tmux(studies, "list-sessions", "-F", "#{session_name}").split()
    assert sorted(sessions) == ["a_b", "a_b-2", "a_b-4"]
    studies.run("--stop=a_b")
    studies.run("--stop=a.b", other_data)
    assert tmux(studies, "list-sessions", "-F", "#{session_name}").split() == ["a_b"]


def test_finished_study_can_be_extended_with_a_second_command(studies):
    name = "a\\b$c"
    flags = (f"--prefix={name}", "--num_workers=1", "--env_bundle=InvertedPendulum")
    studies.run(studies.task("num_iters: 1\n"), *flags)
    studies.wait_for_end(name)
    longer = studies.task("num_iters: 30\n")
    assert "1 job; 1 started" in studies.run(longer, *flags)
    assert "1 job; 0 started, 0 already finished, 1 already active" in studies.run(longer, *flags)
    assert list(studies.wait_for_end(name).values()) == ["finished"]
    assert (
        "num_iters=30 reached"
        in (studies.data / "logs" / f"{name}.InvertedPendulum-v5.seed00" / "log.txt").read_text()
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_interrupted_spawner_keeps_track_of_started_jobs(studies, number):
    command = [sys.executable, ROOT / "spawner.py", f"--data_dir={studies.data}", studies.task(ENDLESS)]
    command += ["--prefix=s", "--num_workers=1", "--num_seeds=20", "--env_bundle=InvertedPendulum"]
    with subprocess.Popen(command, env=studies.env, cwd=studies.folder, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(windows(studies)) > 3)
        process.send_signal(number)
    wait_for(lambda: is_running(studies.states("s")))
    studies.run("--stop=s")
    assert studies.processes() == []


@pytest.mark.parametrize("path", [None, "."])
def test_jobs_find_an_environment_in_the_folder_that_the_study_is_started_from(studies, path, monkeypatch):
    """Also if another folder resubmits them. The environment reads a file beside it, by a relative path."""
    (studies.folder / "my_envs.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', lambda **_: gymnasium.make(open('name.txt').read()), max_episode_steps=9)\n"
    )
    (studies.folder / "name.txt").write_text("CartPole-v1")
    studies.env |= {"PYTHONPATH": path} if path else {}
    monkeypatch.setattr(sys, "path", list(sys.path))
    studies.run(studies.task("num_iters: 2\n"), "--prefix=s", "--num_workers=1", "--env_bundle=my_envs:Mine-v0")
    assert set(studies.wait_for_end("s").values()) == {"finished"}, studies.outputs("s")
    if path is None:
        for file in studies.data.glob("logs/*/status.json"):
            file.write_text(file.read_text().replace("finished", "stopped"))
        monkeypatch.setattr(studies, "folder", ROOT)
        assert "1 started" in studies.run("--resubmit=s")
        assert set(studies.wait_for_end("s").values()) == {"finished"}, studies.outputs("s")


def test_failed_job_shows_its_reason_and_can_be_restarted(studies):
    studies.run(studies.task("num_iters: 3\np_lr: 1e30\n"), "--prefix=s", "--num_workers=1", "--env_bundle=Hopper")
    states = studies.wait_for_end("s")
    assert set(states.values()) == {"failed"}
    wait_for(lambda: set(windows(studies).values()) == {"1"})
    output = studies.run("--status=s")
    assert re.search("^s.Hopper-v5.seed00 failed: .*iteration 1", output, re.M)
    assert "error" in studies.outputs("s")["s.Hopper-v5.seed00.out"]
    assert "1 started" in studies.run("--resubmit=s")
    assert set(windows(studies)) == set(states)  # replaced the old ones
    studies.wait_for_end("s")


def test_clear_removes_the_files_of_ended_jobs(studies):
    flags = (
        "--prefix=s",
        "--num_workers=1",
        "--env_bundle=Hopper",
        "--clear",
        "--args_method=yaml",
        "--wandb_entity=me",
    )
    studies.env |= {"WANDB_API_KEY": "VERYSECRET", "WANDB_MODE": "disabled"}
    studies.run(studies.task("num_iters: 2\n"), *flags)
    assert [path.read_text() for path in studies.files("s").glob("*.key")] == ["VERYSECRET"]
    wait_for(lambda: not list(studies.files("s").glob("*.key")))
    studies.wait_for_end("s")
    wait_for(lambda: not list(studies.files("s").glob("*.sh")))
    assert not list(studies.files("s").glob("*.yaml"))
    assert set(studies.states("s").values()) == {"finished"}
