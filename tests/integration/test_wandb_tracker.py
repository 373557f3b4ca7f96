"""The W&B tracker with the real client and a failing server; test_wandb.py tests complete runs."""

import contextlib
import subprocess
import sys
import time

import pytest

from milozero.helpers.logging import log_to_terminal
from milozero.tracking import wandb as tracking
from milozero.tracking.wandb import has_key
from tests.support.wandb_runs import finish, logged, make_tracker
from tests.support.wandb_server import KEY


def test_metrics_files_and_state_are_uploaded(own_server, tmp_path, caplog):
    last = tmp_path / "n[1]*.seed00" / "last.pt"
    last.parent.mkdir()
    last.write_bytes(b"weights")
    tracker = make_tracker(tmp_path, files=[last, tmp_path / "n[1]*.seed00" / "not_there_yet.pt"])
    for step in (64, 128, 192):
        tracker.log({"return_mean": float(step), "eval_return": float("nan")}, step)
    finish(tracker)
    run = own_server.runs["me", "p", "abcd1234"]
    assert [(row["_step"], row["return_mean"]) for row in run.history] == [(64, 64.0), (128, 128.0), (192, 192.0)]
    assert run.rows("eval_return") == []
    assert (run.display_name, run.group, run.config["gamma"]) == ("n.seed00", "n", {"value": 0.9})
    assert run.files["n[1]*.seed00/last.pt"] == b"weights"
    assert run.state == "finished"
    assert logged(caplog) == []


def test_failed_run_is_marked_as_failed(own_server, tmp_path):
    with pytest.raises(ZeroDivisionError), contextlib.closing(make_tracker(tmp_path)) as tracker:
        raise ZeroDivisionError
    tracker.wait()
    assert own_server.runs["me", "p", "abcd1234"].state == "failed"


def test_changed_file_is_uploaded_again(own_server, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "UPLOAD_INTERVAL_S", 0.0)
    path = tmp_path / "n" / "best.pt"
    path.parent.mkdir()
    path.write_bytes(b"old")
    tracker = make_tracker(tmp_path, files=[path])
    run = None
    deadline = time.monotonic() + 500
    step = 0
    while not (run and "n/best.pt" in run.files):
        assert time.monotonic() < deadline
        step += 1
        tracker.log({"x": 1.0}, step)
        run = own_server.runs.get(("me", "p", "abcd1234"))
        time.sleep(0.1)
    assert run.files["n/best.pt"] == b"old"
    path.write_bytes(b"new")
    finish(tracker)
    assert run.files["n/best.pt"] == b"new"


@pytest.mark.alone
def test_slow_server_gets_everything_without_blocking(own_server, tmp_path, caplog):
    own_server.slow = 0.3
    start = time.monotonic()
    tracker = make_tracker(tmp_path)
    for step in range(100):
        tracker.log({"x": float(step)}, step)
    assert time.monotonic() - start < 0.2
    finish(tracker)
    assert own_server.runs["me", "p", "abcd1234"].rows("x") == list(range(100))
    assert logged(caplog) == []


def test_wrong_key_is_reported_and_the_run_is_kept_offline(own_server, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    tracker = make_tracker(tmp_path)
    tracker.log({"x": 1.0}, 1)
    finish(tracker)
    (line,) = logged(caplog)
    assert "not logged in" in line
    assert "kept offline" in line
    assert "f" * 40 not in line
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled"])
def test_modes_without_server_make_no_request(own_server, tmp_path, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    tracker = make_tracker(tmp_path)
    tracker.log({"x": 1.0}, 1)
    finish(tracker)
    assert own_server.requests == []
    assert (tmp_path / "wandb").exists() == (mode != "disabled")


def test_folder_that_cannot_be_written_is_logged(own_server, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "wandb").write_text("in the way")
    tracker = make_tracker(tmp_path)
    tracker.log({"x": 1.0}, 1)
    finish(tracker)
    assert "Not a directory" in logged(caplog)[0]


@pytest.mark.parametrize(("machine", "known"), [("wandb.example.org", True), ("api.wandb.ai", False)])
def test_stored_key_is_used_only_for_its_server(own_server, tmp_path, monkeypatch, machine, known):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_key("https://wandb.example.org")
    (tmp_path / "netrc").write_text(f"machine {machine}\nlogin user\npassword {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert has_key("https://wandb.example.org") == known
    (tmp_path / "netrc").write_bytes(b"\xff\xfe")
    assert not has_key("https://wandb.example.org")


def test_importing_the_tracker_does_not_import_the_client():
    code = "import sys, milozero.tracking.wandb; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.alone
def test_close_returns_immediately_and_wait_ends_after_its_timeout(own_server, tmp_path, caplog, capsys):
    own_server.slow = 1.0
    tracker = make_tracker(tmp_path)
    start = time.monotonic()
    tracker.close()
    assert time.monotonic() - start < 0.1
    with log_to_terminal():
        tracker.wait(0.5)
    assert 0.4 < time.monotonic() - start < 2.0
    join(tracker)
    (line,) = logged(caplog)
    assert "timed out; the run was not created; progress.csv has all metrics" in line
    assert capsys.readouterr().err == f"warning: {line}\n"
    assert not list((tmp_path / "wandb").glob("offline-run-*"))


@pytest.mark.alone
def test_wait_can_be_interrupted(own_server, tmp_path):
    own_server.fault = "silent"
    tracker = make_tracker(tmp_path)
    start = time.monotonic()
    tracker.close()
    tracker.wait(interrupted=lambda: time.monotonic() - start > 0.5)
    assert time.monotonic() - start < 2.0
    join(tracker)


def join(tracker):
    """Wait for the thread of an abandoned tracker, which would otherwise use the client of the next test."""
    tracker._thread.join(60)
    assert not tracker._thread.is_alive()


def test_wait_prints_that_it_waits_and_where_the_run_is(own_server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "QUIET_WAIT_S", 0.0)
    with log_to_terminal():
        finish(make_tracker(tmp_path))
    waiting, where = capsys.readouterr().out.splitlines()
    assert waiting.startswith("waiting for Weights & Biases")
    assert where == f"Weights & Biases:  {own_server.url}/me/p/runs/abcd1234"
    monkeypatch.setenv("WANDB_MODE", "offline")
    with log_to_terminal():
        finish(make_tracker(tmp_path))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert f"offline; upload it with `wandb sync {folder}`" in capsys.readouterr().out
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with log_to_terminal():
        finish(make_tracker(tmp_path))
    assert capsys.readouterr().out.count("\n") <= 1


def test_steps_on_the_server_are_not_sent_again(own_server, tmp_path):
    for steps in ([1, 2, 3], [2, 3, 4]):
        tracker = make_tracker(tmp_path)
        for step in steps:
            tracker.log({"x": float(step)}, step)
        finish(tracker)
    assert own_server.runs["me", "p", "abcd1234"].rows("x") == [1, 2, 3, 4]


def test_tracker_that_failed_to_start_queues_nothing(own_server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "wandb").write_text("in the way")
    tracker = make_tracker(tmp_path)
    tracker._thread.join(30)
    tracker.log({"x": 1.0}, 1)
    assert tracker._calls.empty()
    finish(tracker)
