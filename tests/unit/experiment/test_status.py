"""A run's status file."""

import json
import math
import os

import pytest

from milozero.experiment.status import Counters, Status


def state(folder):
    return json.loads((folder / "status.json").read_text())["state"]


def test_only_the_first_final_state_counts(tmp_path):
    status = Status(tmp_path, Counters())
    status.write("running", "")
    status.write("finished", "num_iters=3 reached")
    status.write("stopped", "a signal that came too late")
    assert state(tmp_path) == "finished"


def test_worker_that_wakes_up_does_not_mark_a_failed_run_as_running(tmp_path):
    sleeper, other = Status(tmp_path, Counters()), Status(tmp_path, Counters())
    sleeper.write("running", "", unless_ended=True)
    assert state(tmp_path) == "running"
    other.write("failed", "worker 0 is not answering")
    sleeper.write("running", "", unless_ended=True)
    assert state(tmp_path) == "failed"


def test_worker_suspended_while_writing_does_not_mark_a_failed_run_as_running(tmp_path, monkeypatch):
    sleeper, other = Status(tmp_path, Counters()), Status(tmp_path, Counters())
    sleeper.write("running", "", unless_ended=True)
    fsync = os.fsync

    def sleep(file):
        monkeypatch.setattr(os, "fsync", fsync)
        other.write("failed", "worker 0 is not answering")
        fsync(file)

    monkeypatch.setattr(os, "fsync", sleep)
    sleeper.write("running", "", unless_ended=True)
    assert state(tmp_path) == "failed"
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_run_is_resumable_from_its_first_checkpoint(tmp_path):
    def resumable(state, saved):
        Status(tmp_path, Counters(), saved).write(state, "")
        return json.loads((tmp_path / "status.json").read_text())["resumable"]

    assert not resumable("stopped", None)
    assert resumable("stopped", 50)
    assert resumable("failed", 50)
    assert resumable("finished", 50)  # with a larger --num_timesteps


def test_failed_write_only_causes_a_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    Status(tmp_path / "file/logs", Counters()).write("running", "")
    assert "cannot write status.json" in caplog.text


@pytest.mark.parametrize("change", [{"iteration": -1}, {"iteration": "3"}, {"seconds": 1}, {"more": 1}])
def test_invalid_counters_are_refused(change):
    with pytest.raises(ValueError, match="counters"):
        Counters().load_state_dict(vars(Counters()) | change)


def test_counters_are_loaded():
    counters = Counters()
    counters.load_state_dict(vars(Counters(iteration=3, best_eval_return=-math.inf)))
    assert counters.iteration == 3
