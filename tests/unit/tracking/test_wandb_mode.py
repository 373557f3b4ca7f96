"""Whether a run is online, with a fake client; tests/integration/test_wandb_tracker.py uses the real one."""

import shutil
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from milozero.tracking import wandb as wandb_tracker
from milozero.tracking.tracker import TrackingConfig


def track(monkeypatch, tmp_path, mode, key, fails=False):
    """Open and close a tracker; return the modes that it tried."""
    modes = []

    def init(*, mode, **_):
        modes.append(mode)
        if fails and mode == "online":
            raise RuntimeError("no answer")
        return SimpleNamespace(disabled=True, url="", dir=str(tmp_path), finish=lambda **_: None)

    client = SimpleNamespace(Settings=lambda **_: None, init=init, teardown=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", client)
    monkeypatch.setattr(wandb_tracker, "_stop_service", lambda: None)
    settings = SimpleNamespace(mode=mode, base_url="https://wandb.example")
    monkeypatch.setattr(wandb_tracker, "client_settings", lambda: settings)
    monkeypatch.setattr(wandb_tracker, "has_key", lambda url: key)
    tracker = wandb_tracker.WandbTracker(TrackingConfig(wandb_project="p"), tmp_path, "id", files=[])
    tracker.close()
    tracker.wait(10.0)
    return modes


@pytest.mark.parametrize(
    ("mode", "key", "modes"),
    [
        ("online", True, ["online"]),
        ("online", False, ["offline"]),
        ("offline", True, ["offline"]),
        ("dryrun", True, ["offline"]),
        ("disabled", True, ["disabled"]),
        ("disabled", False, ["disabled"]),
    ],
)
def test_run_is_online_only_with_a_key(monkeypatch, tmp_path, mode, key, modes):
    assert track(monkeypatch, tmp_path, mode, key) == modes


def test_server_that_hangs_is_reported(monkeypatch, tmp_path, caplog):
    release = threading.Event()
    monkeypatch.setattr(wandb_tracker, "_kill_service", lambda: None)
    monkeypatch.setattr(wandb_tracker, "client_settings", lambda: release.wait(30.0))
    tracker = wandb_tracker.WandbTracker(TrackingConfig(wandb_project="p"), tmp_path, "id", files=[])
    tracker.close()
    tracker.wait(0.1)
    release.set()
    assert "timed out; the run was not created; progress.csv has all metrics" in caplog.text


def test_service_that_hangs_is_killed_and_no_other_process(tmp_path):
    programs = [shutil.copy("/bin/sleep", tmp_path / name) for name in ("wandb-core", "other")]
    service, other = (subprocess.Popen([program, "60"]) for program in programs)
    try:
        wandb_tracker._kill_service()
        assert service.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_run_is_offline_if_the_server_does_not_answer(monkeypatch, tmp_path, caplog):
    assert track(monkeypatch, tmp_path, "online", True, fails=True) == ["online", "offline"]
    assert "no answer; the run is kept offline" in caplog.text
