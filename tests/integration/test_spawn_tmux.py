"""Studies in a real tmux server."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.one_run import wait_for
from tests.support.tmux import ENDLESS, is_running, panes, tmux, windows

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="apt install tmux")


def test_stop_saves_and_leaves_no_process_and_resubmit_resumes(studies):
    studies.run(studies.task(ENDLESS), "--prefix=s", "--num_workers=2", "--num_seeds=2")
    studies.wait("s", is_running)
    wait_for(lambda: list(studies.data.glob("logs/*/progress.csv")))
    time.sleep(1)
    assert len(studies.processes()) > 4
    assert "stopping 4 jobs" in studies.run("--stop=s")
    assert studies.processes() == []
    assert windows(studies) == {}
    states = studies.states("s")
    assert set(states.values()) == {"stopped"}
    assert list(studies.data.glob("checkpoints/*/last.pt"))
    assert "4 jobs; 4 started" in studies.run("--resubmit=s")
    states = studies.wait("s", is_running)
    assert "4 jobs; 0 started, 0 already finished, 4 already active" in studies.run("--resubmit=s")
    job = next(name for name, state in states.items() if state == "running")
    wait_for(lambda: "resuming after iteration" in (studies.data / f"logs/{job}/log.txt").read_text())
    studies.run("--stop=s")
    assert studies.processes() == []


def test_study_starts_without_a_utf8_locale_in_the_tmux_that_the_user_is_in(studies):
    socket = studies.folder / "t/mine"
    subprocess.run(["tmux", "-S", socket, "new-session", "-d", "-s", "mine", "cat"], env=studies.env, check=True)
    try:
        studies.env |= {"TMUX": f"{socket},1,0", "LC_ALL": "C"}
        command = (studies.task(ENDLESS), "--prefix=größe", "--num_workers=1", "--env_bundle=Hopper")
        shown = studies.run(*command)
        assert f"tmux -S {socket} attach -t '=größe'" in shown
        studies.wait("größe", is_running)
        assert "1 already active" in studies.run(*command)  # the session is found again
        assert tmux(studies, "-u", "list-sessions", "-F", "#{session_name}").split() == ["größe", "mine"]
        studies.env.pop("TMUX")  # as in a terminal outside that tmux
        assert "1 already active" in (shown := studies.run(*command))
        assert f"tmux -S {socket} attach -t '=größe'" in shown
        studies.run("--stop=größe")
        listed = subprocess.run(
            ["tmux", "-S", socket, "ls", "-F", "#S"], env=studies.env, capture_output=True, text=True
        )
        assert listed.stdout.split() == ["mine"]
        assert not list((studies.folder / "t").glob("tmux-*/default"))
    finally:
        subprocess.run(["tmux", "-S", socket, "kill-server"], env=studies.env)


def test_session_of_a_study_whose_first_job_does_not_start_is_closed(studies, monkeypatch):
    def fail(*_):
        raise ValueError("no window")

    monkeypatch.setattr("milozero.studies.launchers.tmux.Tmux._open_window", fail)
    with pytest.raises(ValueError, match="no window"):
        studies.run(studies.task(ENDLESS), "--prefix=s", "--num_workers=1", "--env_bundle=Hopper")
    assert tmux(studies, "list-sessions") == ""


def test_key_reaches_the_jobs_but_no_process_list_or_screen(studies):
    """Each job prints the length of its key to stderr."""
    studies.env |= {"WANDB_API_KEY": "VERYSECRET", "WANDB_MODE": "disabled"}
    code = "import os, sys\nprint('key of', len(os.environ.get('WANDB_API_KEY', '')), file=sys.stderr)\n"
    (studies.folder / "sitecustomize.py").write_text(code)
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
    assert not [path for path in studies.data.rglob("*") if path.is_file() and b"VERYSECRET" in path.read_bytes()]
