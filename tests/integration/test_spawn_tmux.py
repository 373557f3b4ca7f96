"""Studies in a real tmux server of the test's own."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.one_run import wait_for
from tests.support.tmux import CORES, ENDLESS, is_running, panes, tmux, windows

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="apt install tmux")


def test_study_takes_turns_and_finishes_and_is_not_started_twice(studies):
    """With a name that a shell, tmux and its formats would each take for something else."""
    name = """it's #(touch x) $(touch y) `touch z` "a.b";"""
    command = (studies.task("num_iters: 3\n"), f"--prefix={name}", f"--num_workers={CORES}")
    told = studies.run(*command)
    assert "2 jobs; 2 started" in told
    jobs = {f"{name}.{env_id}.seed00" for env_id in ("InvertedPendulum-v5", "Hopper-v5")}
    assert set(windows(studies)) == jobs
    at_once, order = 0, []
    while {"pending", "running"} & set((states := studies.states(name)).values()):
        assert set(states) == jobs
        time.sleep(0.05)
        at_once = max(at_once, list(states.values()).count("running"))
        order += [job for job, state in states.items() if state == "running" and job not in order]
    assert at_once == 1  # each takes all cores
    assert order == [job for job in states if job in order]
    assert set(states.values()) == {"finished"}
    wait_for(lambda: windows(studies) == dict.fromkeys(jobs, "0"))
    screen = tmux(studies, "capture-pane", "-p", "-t", panes(studies)[0])
    assert "finished: num_iters=3 reached" in screen
    assert "exit code 0" in screen
    assert "Pane is dead (status 0" in screen
    assert "2 jobs; 0 started, 2 finished already" in studies.run(*command)
    assert windows(studies) == dict.fromkeys(jobs, "0")
    assert not {"x", "y", "z"} & {path.name for folder in (studies.folder, ROOT) for path in folder.iterdir()}


def test_stop_saves_and_leaves_no_process_and_resubmit_goes_on(studies):
    studies.run(studies.task(ENDLESS), "--prefix=s", "--num_workers=2", "--num_seeds=2")
    studies.wait("s", is_running)
    wait_for(lambda: list(studies.data.glob("logs/*/progress.csv")))
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
    wait_for(lambda: "resuming after iteration" in (studies.data / f"logs/{job}/log.txt").read_text())
    studies.run("--stop=s")
    assert studies.processes() == []


def test_job_that_fails_shows_why_and_is_started_again(studies):
    studies.run(studies.task("num_iters: 3\np_lr: 1e30\n"), "--prefix=s", "--num_workers=1", "--env_bundle=Hopper")
    states = studies.wait_for_end("s")
    assert set(states.values()) == {"failed"}
    wait_for(lambda: set(windows(studies).values()) == {"1"})
    shown = studies.run("--status=s")
    assert re.search("^s.Hopper-v5.seed00 failed: .*iteration 1", shown, re.M)
    assert "error" in studies.outputs("s")["s.Hopper-v5.seed00.out"]
    assert "1 started" in studies.run("--resubmit=s")
    assert set(windows(studies)) == set(states)  # in the place of the old ones
    studies.wait_for_end("s")


def test_clear_removes_the_files_of_jobs_that_have_ended(studies):
    flags = (
        "--prefix=s",
        "--num_workers=1",
        "--env_bundle=Hopper",
        "--clear",
        "--args_method=yaml",
        "--wandb_entity=me",
    )
    studies.run(studies.task("num_iters: 2\n"), *flags)
    studies.wait_for_end("s")
    wait_for(lambda: not list(studies.files("s").glob("*.sh")))
    assert not list(studies.files("s").glob("*.yaml"))
    assert set(studies.states("s").values()) == {"finished"}


def test_key_is_in_no_process_list_and_on_no_screen(studies):
    """It comes to the jobs: each says on stderr that it has it."""
    studies.env |= {"WANDB_API_KEY": "VERYSECRET", "WANDB_MODE": "disabled"}
    tell = studies.folder / "sitecustomize.py"
    tell.write_text("import os, sys\nprint('key of', len(os.environ.get('WANDB_API_KEY', '')), file=sys.stderr)\n")
    studies.env["PYTHONPATH"] = str(studies.folder)
    studies.run(studies.task(ENDLESS), "--prefix=s", "--num_workers=1", "--env_bundle=Hopper", "--wandb_project=p")
    studies.wait("s", is_running)
    wait_for(lambda: "key of 10" in "".join(studies.outputs("s").values()))
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
