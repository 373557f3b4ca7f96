"""The W&B tracker with the real client and a failing server."""

import time

import pytest

from milozero.tracking import wandb as tracking
from tests.support.wandb_runs import finish, logged, make_tracker


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["silent", "breaks", "error", "garbage", "empty"])
@pytest.mark.parametrize("late", [False, True])
def test_failing_server_never_blocks(own_server, tmp_path, caplog, monkeypatch, fault, late):
    """If it fails at the start, the run is kept offline; if it fails later, the run's folder has the rest."""
    for name in ("INIT_TIMEOUT_S", "FINISH_TIMEOUT_S", "FINISH_MARGIN_S"):
        monkeypatch.setattr(tracking, name, 3.0)
    own_server.fault = "" if late else fault
    tracker = make_tracker(tmp_path)
    deadline = time.monotonic() + 500
    while late and not own_server.runs:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    own_server.fault = fault
    start = time.monotonic()
    for step in range(100):
        tracker.log({"x": float(step)}, step)
    assert time.monotonic() - start < 1.0  # a blocked call waits for seconds; a busy machine takes 0.2 s for all
    finish(tracker)
    assert time.monotonic() - start < 3 + 3 + 3 + 5
    folders = list((tmp_path / "wandb").glob("run-*" if late else "offline-run-*"))
    if fault != "empty":  # the client does not notice this fault immediately
        assert max(path.stat().st_size for folder in folders for path in folder.glob("*.wandb")) > 3000
    if fault != "garbage" or not late:
        assert logged(caplog)
