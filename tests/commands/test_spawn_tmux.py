"""Studies in a real tmux server of the test's own."""

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

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="apt install tmux")
ENDLESS = "num_timesteps: 1e9\nsave_frequency: 5\n"
CORES = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def _server(studies):
    """End the server that a test has started."""
    yield
    subprocess.run(["tmux", "kill-server"], env=studies.env, capture_output=True)


def tmux(studies, *command):
    return subprocess.run(["tmux", *command], env=studies.env, capture_output=True, text=True).stdout


def windows(studies):
    """Return window's name → exit code, or nothing while it works."""
    lines = tmux(studies, "list-panes", "-a", "-F", "#{window_name}\t#{pane_dead_status}").splitlines()
    return dict(line.split("\t") for line in lines)


def panes(studies):
    return tmux(studies, "list-panes", "-a", "-F", "#{pane_id}").split()


def is_running(states):
    return "running" in states.values()


def wait_until(true, seconds=30):
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_study_takes_turns_and_finishes_and_is_not_started_twice(studies):
    """With a name that a shell, tmux and its formats would each take for something else."""
    name = """it's #(touch x) $(touch y) `touch z` "a.b";"""
    command = (studies.task("num_iters: 20\n"), f"--prefix={name}", "--num_seeds=2", "--num_workers=2")
    told = studies.run(*command)
    assert "4 jobs; 4 started" in told
    jobs = {f"{name}.{env_id}.seed0{seed}" for env_id in ("InvertedPendulum-v5", "Hopper-v5") for seed in (0, 1)}
    assert set(windows(studies)) == jobs
    at_once, order = 0, []
    while {"pending", "running"} & set((states := studies.states(name)).values()):
        assert set(states) == jobs
        at_once = max(at_once, list(states.values()).count("running"))
        order += [job for job, state in states.items() if state == "running" and job not in order]
    assert 1 <= at_once <= max(CORES // 2, 1)
    assert order == [job for job in states if job in order]
    assert set(states.values()) == {"finished"}
    wait_until(lambda: windows(studies) == dict.fromkeys(jobs, "0"))
    screen = tmux(studies, "capture-pane", "-p", "-t", panes(studies)[0])
    assert "finished: num_iters=20 reached" in screen
    assert "exit code 0" in screen
    assert "Pane is dead (status 0" in screen
    assert "4 jobs; 0 started, 4 finished already" in studies.run(*command)
    assert windows(studies) == dict.fromkeys(jobs, "0")
    assert not {"x", "y", "z"} & {path.name for folder in (studies.folder, ROOT) for path in folder.iterdir()}


def test_stop_saves_and_leaves_no_process_and_resubmit_goes_on(studies):
    studies.run(studies.task(ENDLESS), "--prefix=s", "--num_workers=2", "--num_seeds=2")
    studies.wait("s", is_running)
    wait_until(lambda: list(studies.data.glob("logs/*/progress.csv")))
    time.sleep(1)
    assert len(studies.processes()) > 4
    told = studies.run("--stop=s")
    assert "stopping 4 jobs" in told
    assert studies.processes() == []
    assert windows(studies) == {}
    states = studies.states("s")
    assert set(states.values()) == {"stopped"}
    assert list(studies.data.glob("checkpoints/*/last.pt"))
    assert "4 jobs; 4 started" in studies.run("--resubmit=s")
    states = studies.wait("s", is_running)
    assert "4 jobs; 0 started, 0 finished already, 4 at work already" in studies.run("--resubmit=s")
    job = next(name for name, state in states.items() if state == "running")
    wait_until(lambda: "resumed after iteration" in (studies.data / f"logs/{job}/log.txt").read_text())
    studies.run("--stop=s")
    assert studies.processes() == []


@pytest.mark.parametrize("how", ["kill-server", "SIGKILL", "Ctrl-C"])
def test_window_that_goes_takes_its_job_with_it(studies, how):
    studies.run(studies.task(ENDLESS), "--prefix=s", "--num_workers=1")
    states = studies.wait("s", is_running)
    job = next(name for name, state in states.items() if state == "running")
    wait_until(lambda: (studies.data / f"logs/{job}/progress.csv").exists())
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
    wait_until(lambda: len([words for words in studies.processes() if "main.py" in words]) == 0)
    assert (studies.data / f"checkpoints/{job}/last.pt").exists()


def test_job_that_fails_shows_why_and_is_started_again(studies):
    studies.run(studies.task("num_iters: 3\np_lr: 1e30\n"), "--prefix=s", "--num_workers=1")
    states = studies.wait_for_end("s")
    assert set(states.values()) == {"failed"}
    wait_until(lambda: set(windows(studies).values()) == {"1"})
    shown = studies.run("--status=s")
    assert re.search("^s.Hopper-v5.seed00 failed: .*iteration 1", shown, re.M)
    assert "error" in studies.outputs("s")["s.Hopper-v5.seed00.out"]
    assert "2 started" in studies.run("--resubmit=s")
    assert set(windows(studies)) == set(states)  # in the place of the old ones
    studies.wait_for_end("s")


def test_two_studies_share_the_cores(studies):
    """Each job takes all of them, so there is never more than one at work."""
    task = studies.task("num_iters: 20\n")
    for name in ("a", "b"):
        studies.run(task, f"--prefix={name}", f"--num_workers={CORES}")
    give_up = time.monotonic() + 200
    while True:
        before, other, after = (studies.states(name) for name in ("a", "b", "a"))
        # One look takes a moment: what ran before and after the other's, ran during it.
        at_once = [job for job in after if before[job] == after[job] == "running"]
        at_once += [job for job in other if other[job] == "running"]
        assert len(at_once) <= 1
        states = [*other.values(), *after.values()]
        if not {"pending", "running"} & set(states):
            break
        assert time.monotonic() < give_up
    assert states == ["finished"] * 4


def test_clear_removes_the_files_of_jobs_that_have_ended(studies):
    flags = ("--prefix=s", "--num_workers=1", "--clear", "--args_method=yaml", "--wandb_entity=me")
    studies.run(studies.task("num_iters: 2\n"), *flags)
    studies.wait_for_end("s")
    wait_until(lambda: not list(studies.files("s").glob("*.sh")))
    assert not list(studies.files("s").glob("*.yaml"))
    assert set(studies.states("s").values()) == {"finished"}


def test_key_is_in_no_process_list_and_on_no_screen(studies):
    """It comes to the jobs: each says on stderr that it has it."""
    studies.env |= {"WANDB_API_KEY": "VERYSECRET", "WANDB_MODE": "disabled"}
    tell = studies.folder / "sitecustomize.py"
    tell.write_text("import os, sys\nprint('key of', len(os.environ.get('WANDB_API_KEY', '')), file=sys.stderr)\n")
    studies.env["PYTHONPATH"] = str(studies.folder)
    studies.run(studies.task(ENDLESS), "--prefix=s", "--num_workers=1", "--wandb_project=p")
    studies.wait("s", is_running)
    wait_until(lambda: "key of 10" in "".join(studies.outputs("s").values()))
    everything = [Path(p).read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if os.access(p, os.R_OK)]
    assert not [words for words in everything if b"VERYSECRET" in words]
    assert "VERYSECRET" not in tmux(studies, "show-environment", "-g")
    assert "VERYSECRET" not in tmux(studies, "show-environment", "-t", "=s")
    for pane in panes(studies):
        assert "key of" in (screen := tmux(studies, "capture-pane", "-p", "-S-", "-t", pane))
        assert "VERYSECRET" not in screen
    studies.run("--stop=s")
    with_key = [path for path in studies.data.rglob("*") if path.is_file() and b"VERYSECRET" in path.read_bytes()]
    assert with_key == [studies.files("s") / ".wandb_api_key"]


DOCKER = """#!{python}
import os, subprocess, sys

words = sys.argv[1:]
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


def test_contracts_example_runs_as_written(studies, tmp_path):
    """From the README, with a docker that runs the command here, shorter, and the user's own names filled in."""
    readme = (ROOT / "README.md").read_text()
    text = re.search(r"python spawner\.py \\  #.*?(?=\n\s*```)", readme, re.S)[0]
    line = re.sub(r"\s*(\\\s*)?#[^\n]*\n|\s*\\\n", " ", text + "\n")
    for name, value in (("BASE_URL", "http://127.0.0.1:9"), ("API_KEY", "VERYSECRET"), ("ENTITY", "me")):
        line = line.replace(f"[YOUR_WANDB_{name}]", value)
    words = shlex.split(line)
    assert words[:2] == ["python", "spawner.py"]
    assert "--docker" in words
    programs = tmp_path / "programs"
    programs.mkdir()
    # an upgrade must not change what is installed here
    (programs / "pip").write_text(f"#!/bin/sh\necho pip $* >>{shlex.quote(str(tmp_path))}/pip.log\n")
    docker = DOCKER.format(python=sys.executable, folder=tmp_path, bin=f"{programs}:{Path(sys.executable).parent}")
    (programs / "docker").write_text(docker)
    for program in programs.iterdir():
        program.chmod(0o755)
    short = tmp_path / "short.yaml"
    short.write_text((ROOT / "tasks/train_mujoco_ppo.yaml").read_text().replace("1e6", "2000"))
    words = [str(short) if word == "tasks/train_mujoco_ppo.yaml" else word for word in words]
    studies.env |= {"PATH": f"{programs}:{os.environ['PATH']}", "WANDB_MODE": "disabled"}
    told = studies.run(*words[2:])
    assert "6 jobs; 6 started" in told
    states = studies.wait_for_end("study")
    assert list(states.values()) == ["finished"] * 6, studies.outputs("study")
    used = (tmp_path / "docker.log").read_text().splitlines()
    assert len(used) == 6
    assert "VERYSECRET" not in "".join(used)
    assert (tmp_path / "wandb.log").read_text().split() == ["http://127.0.0.1:9VERYSECRET"] * 6
    assert (tmp_path / "pip.log").read_text().count("--upgrade wandb") == 6
    wait_until(lambda: not list(studies.files("study").glob("*.sh")))


CONDA = """#!/bin/bash
if [ "$1 $2" = "env list" ]; then echo '{{"envs": ["/opt/conda", "/opt/conda/envs/py torch"]}}'; exit; fi
if [ "$1 $2" = "shell.bash hook" ]; then
  echo 'conda() {{ export CONDA_DEFAULT_ENV="$2" PATH={bin}:$PATH; }}'
fi
"""


def test_conda_environment_is_activated(studies, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "conda").write_text(CONDA.format(bin=Path(sys.executable).parent))
    (programs / "conda").chmod(0o755)
    studies.env |= {"PATH": f"{programs}:/usr/bin:/bin"}
    task = studies.task("num_iters: 1\n")
    refused = studies.run(task, "--conda_env=pytorch", fails=True)
    assert "--conda_env=pytorch: no such environment; did you mean 'py torch'?" in refused
    studies.run(task, "--conda_env=py torch", "--num_workers=1")
    assert set(studies.wait_for_end("study").values()) == {"finished"}, studies.outputs("study")


def test_wandb_is_upgraded_before_anything_starts(studies):
    """By a pip that may look nowhere: what is installed is the newest that it can find."""
    task = studies.task("num_iters: 1\n")
    told = studies.run(task, "--wandb_upgrade", "--num_workers=1", PIP_NO_INDEX="1")
    assert told.splitlines()[0] == "upgrading wandb"
    studies.wait_for_end("study")
    refused = studies.run(task, "--wandb_upgrade", "--prefix=other", fails=True, PIP_PYTHON="/nowhere")
    assert "--wandb_upgrade: " in refused
    assert not list(studies.files("other").glob("*"))


def test_studies_of_one_name_and_the_users_own_session_are_left_alone(studies):
    """Two folders, two names that tmux writes alike, and a session that somebody else opened."""
    tmux(studies, "new-session", "-d", "-s", "a_b", "cat")
    task = studies.task(ENDLESS)
    elsewhere = f"--data_dir={studies.folder}/o"
    flags = ("--num_workers=1", "--env_bundle=InvertedPendulum")
    studies.run(task, "--prefix=a_b", *flags)
    studies.run(task, "--prefix=a.b", *flags)
    assert "attach -t =a_b-4" in studies.run(task, "--prefix=a.b", *flags, elsewhere)
    sessions = tmux(studies, "list-sessions", "-F", "#{session_name}").split()
    assert sorted(sessions) == ["a_b", "a_b-2", "a_b-3", "a_b-4"]
    studies.run("--stop=a.b")
    assert "running" in studies.states("a_b").values()
    sessions = tmux(studies, "list-sessions", "-F", "#{session_name}").split()
    assert sorted(sessions) == ["a_b", "a_b-2", "a_b-4"]
    studies.run("--stop=a_b")
    studies.run("--stop=a.b", elsewhere)
    assert tmux(studies, "list-sessions", "-F", "#{session_name}").split() == ["a_b"]


def test_study_can_be_made_longer_by_giving_the_command_twice(studies):
    name = "a\\b$c"
    flags = (f"--prefix={name}", "--num_workers=1", "--env_bundle=InvertedPendulum")
    studies.run(studies.task("num_iters: 1\n"), *flags)
    studies.wait_for_end(name)
    longer = studies.task("num_iters: 30\n")
    assert "1 jobs; 1 started" in studies.run(longer, *flags)
    assert "1 jobs; 0 started, 0 finished already, 1 at work already" in studies.run(longer, *flags)
    assert list(studies.wait_for_end(name).values()) == ["finished"]
    assert (
        "num_iters=30 reached"
        in (studies.data / "logs" / f"{name}.InvertedPendulum-v5.seed00" / "log.txt").read_text()
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_spawner_that_is_ended_while_it_opens_windows_forgets_none(studies, number):
    command = [sys.executable, ROOT / "spawner.py", f"--data_dir={studies.data}", studies.task(ENDLESS)]
    command += ["--prefix=s", "--num_workers=1", "--num_seeds=20", "--env_bundle=InvertedPendulum"]
    with subprocess.Popen(command, env=studies.env, cwd=studies.folder, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(windows(studies)) > 3)
        process.send_signal(number)
    wait_until(lambda: is_running(studies.states("s")))
    studies.run("--stop=s")
    assert studies.processes() == []
