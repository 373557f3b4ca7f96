import json
import math
import socket
import time

import numpy as np
import pytest

from milozero.helpers.errors import UserError
from milozero.helpers.locks import Lock
from milozero.reports import run_states as states
from milozero.reports import runs
from milozero.studies.folder import StudyFolder, StudyMetadata
from tests.support import runs as logs

NAMES = ["hop", "hop.a.seed00", "hopper", "walkers.Hopper-v5.seed00", "walkers.Hopper-v5.seed01", "we,ird"]


@pytest.mark.parametrize(
    ("study", "wanted"),
    [
        ("hop", ["hop", "hop.a.seed00"]),
        ("hopper", ["hopper"]),
        ("walkers.Hopper-v5", NAMES[3:5]),
        ("walkers, hopper", ["hopper", *NAMES[3:5]]),
        ("*.seed00", ["hop.a.seed00", "walkers.Hopper-v5.seed00"]),
        ("walk*", NAMES[3:5]),
        ("h?p", ["hop", "hop.a.seed00"]),
        ("*", NAMES),
    ],
)
def test_runs_are_selected_by_name_prefix_or_pattern(study, wanted):
    assert runs.matching(reversed(NAMES), study) == wanted


def test_unknown_study_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"there are no runs of that name; did you mean 'walkers'"):
        runs.matching(NAMES, "walker")
    with pytest.raises(UserError, match=r"--study=zzz: .*; there are hop, hopper, walkers, we,ird$"):
        runs.matching(NAMES, "hop,zzz")
    with pytest.raises(UserError, match=r"no runs of that name$"):
        runs.matching([], "hop")


def test_name_with_brackets_is_itself_before_it_is_a_pattern():
    assert runs.matching(["a[1]", "a1"], "a[1]") == ["a[1]"]


def read(tmp_path, text):
    path = tmp_path / "progress.csv"
    path.write_bytes(text.encode())
    return runs.read_columns(path)


def test_half_a_row_at_the_end_is_left_out(tmp_path):
    columns, damaged = read(tmp_path, "iteration,timesteps,return_mean\r\n1,1000,5.5\r\n2,2000,61")
    assert columns["return_mean"].tolist() == [5.5]
    assert damaged == 0


def test_damaged_rows_are_counted_and_cells_that_are_no_numbers_are_nan(tmp_path):
    text = "iteration,timesteps,return_mean,eval_return\n1,1000,,\n2,20\n\x00\n3,3000,x,4\n4,4000,5,nan\n"
    columns, damaged = read(tmp_path, text)
    np.testing.assert_equal(columns["timesteps"], [1000, 3000, 4000])
    np.testing.assert_equal(columns["return_mean"], [math.nan, math.nan, 5])
    np.testing.assert_equal(columns["eval_return"], [math.nan, 4, math.nan])
    assert damaged == 2


@pytest.mark.parametrize("text", ["", "iteration", "iteration,timesteps\n", "\n\n", "a,b\n1,2\n"])
def test_file_without_rows_has_no_series(tmp_path, text):
    columns, _ = read(tmp_path, text)
    run = runs.Run("x", {}, "running", "", tmp_path, columns)
    assert len(run.series("return_mean")[0]) == 0
    assert math.isnan(run.score("return_mean"))
    assert math.isnan(run.steps)


def test_of_a_step_that_stands_twice_the_later_row_counts(tmp_path):
    columns, _ = read(tmp_path, "timesteps,return_mean\n1000,1\n2000,2\n1000,7\n3000,inf\n")
    steps, values = runs.Run("x", {}, "running", "", tmp_path, columns).series("return_mean")
    assert (steps.tolist(), values.tolist()) == ([1000, 2000], [7, 2])


def test_run_is_read_as_it_was_logged(tmp_path):
    logs.log_run(tmp_path, "s.trial007.seed03", seed=3, evaluations=[10, 20, 15], p_lr=0.01)
    (run,) = runs.read_runs(tmp_path, "s")
    assert (run.env_id, run.algo, run.seed, run.trial) == ("Hopper-v5", "ppo", "3", "007")
    assert (run.state, run.reason, run.problems) == ("finished", "", ())
    assert (run.steps, run.count("iteration"), run.speed) == (6000, 6, 500)
    assert (run.score("eval_return"), run.best("eval_return")) == (15, 20)
    assert run.log == tmp_path / "logs/s.trial007.seed03/log.txt"


@pytest.mark.parametrize("config", [None, b"\xff\xfe", b"[", b"a: [", b"- 1", b"env_id: 3\nalgo: ppo", b"[" * 5000])
def test_run_without_readable_settings_is_kept_and_told(tmp_path, config):
    folder = logs.log_run(tmp_path, "s", evaluations=[1])
    (folder / "config.yaml").unlink()
    if config is not None:
        (folder / "config.yaml").write_bytes(config)
    (run,) = runs.read_runs(tmp_path, "s")
    assert (run.config, run.steps) == ({}, 2000)
    assert "config.yaml" in run.problems[0]


def test_damaged_rows_are_told(tmp_path):
    path = logs.log_run(tmp_path, "s", evaluations=[1]) / "progress.csv"
    path.write_text(path.read_text() + "1,2\n")
    (run,) = runs.read_runs(tmp_path, "s")
    assert (run.steps, run.problems) == (2000, ("lines of progress.csv that are no rows: 1",))


def test_metrics_that_cannot_be_read_are_told_and_those_not_there_yet_are_not(tmp_path):
    path = logs.log_run(tmp_path, "s", evaluations=[1]) / "progress.csv"
    path.unlink()
    assert runs.read_runs(tmp_path, "s")[0].problems == ()
    path.mkdir()
    assert runs.read_runs(tmp_path, "s")[0].problems == ("progress.csv cannot be read: Is a directory",)


def test_no_logs_at_all_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the logs in .*logs: No such file"):
        runs.read_runs(tmp_path, "s")


def state(tmp_path, name="s"):
    (run,) = runs.read_runs(tmp_path, name)
    return run.state, run.reason


def test_what_a_run_said_at_its_end_is_believed(tmp_path):
    folder = logs.log_run(tmp_path, "s", evaluations=[1])
    logs.say(folder, "failed", "a loss is NaN")
    assert state(tmp_path) == ("failed", "a loss is NaN")
    (folder / "status.json").write_text("{")
    assert state(tmp_path)[0] == "unknown"


def test_run_that_holds_its_folder_is_running_whatever_it_said(tmp_path):
    folder, checkpoints = logs.log_run(tmp_path, "s", evaluations=[1]), tmp_path / "checkpoints/s"
    checkpoints.mkdir(parents=True)
    lock = Lock(checkpoints)
    for said in ("running", "stopped"):  # the second is of the time before it was resumed
        logs.say(folder, said)
        assert state(tmp_path) == ("running", "")
    lock.release()
    logs.say(folder, "running")
    assert state(tmp_path) == ("failed", "it was killed")


def test_silent_run_of_another_machine_is_dead_after_its_watchdogs_time(tmp_path):
    folder = logs.log_run(tmp_path, "s", evaluations=[1], watchdog="00:10:00")
    (folder / "progress.csv").unlink()
    logs.say(folder, "running", host="far.away", when=time.time() - 500)
    assert state(tmp_path) == ("running", "")
    logs.say(folder, "running", host="far.away", when=time.time() - 700)
    assert state(tmp_path)[0] == "failed"
    assert "no sign of life since 20" in state(tmp_path)[1]


def test_row_that_was_just_written_is_a_sign_of_life(tmp_path):
    folder = logs.log_run(tmp_path, "s", evaluations=[1])
    logs.say(folder, "running", host="far.away", when=time.time() - 1e6)
    assert state(tmp_path) == ("running", "")


def test_run_without_watchdog_is_never_called_dead_from_afar(tmp_path):
    folder = logs.log_run(tmp_path, "s", watchdog="0")
    (folder / "progress.csv").unlink()
    logs.say(folder, "running", host="far.away", when=time.time() - 1e6)
    assert state(tmp_path) == ("running", "")


@pytest.fixture
def study(tmp_path):
    """A study of two jobs, of which one has begun."""
    logs.log_run(tmp_path, "st.a", evaluations=[1])
    folder = StudyFolder(str(tmp_path), "st")
    folder.path.mkdir(parents=True)
    settings = {"uuid": "st.a", "env_id": "Hopper-v5", "algo": "ppo", "num_timesteps": 2000, "num_iters": None}
    jobs = {
        name: {"settings": settings | {"uuid": name}, "deployment": "tmux", "job_id": "x"}
        for name in ("st.a", "st.b")
    }
    jobs["st.b"]["job_id"] = ""
    folder.write_metadata(StudyMetadata({}, jobs))
    return folder


def test_job_that_has_not_begun_is_a_run_too(study, tmp_path):
    done, waiting = runs.read_runs(tmp_path, "st")
    assert (done.state, waiting.state, waiting.env_id) == ("finished", "not started", "Hopper-v5")


def test_launcher_knows_why_a_job_died(study, tmp_path):
    logs.say(tmp_path / "logs/st.a", "running")
    study.exit_code_path("st.a").write_text("137")
    study.output_path("st.a").write_text("error: no memory\n")
    assert state(tmp_path, "st.a") == ("failed", "exit code 137: error: no memory")


def test_launcher_of_this_machine_knows_nothing_of_another(study, tmp_path):
    logs.say(tmp_path / "logs/st.a", "running", host="far.away")
    assert state(tmp_path, "st.a") == ("running", "")


def test_launcher_that_does_not_answer_is_done_without(study, tmp_path, monkeypatch):
    def silent(*_):
        raise UserError("Slurm does not answer")

    monkeypatch.setattr("milozero.studies.launchers.tmux.Tmux.active", silent)
    assert state(tmp_path, "st.a") == ("finished", "")
    (study.path / "study.json").write_text("{")
    assert states.launched_jobs(tmp_path) == {}


def test_status_of_a_real_run_has_the_form_that_is_read_here(tmp_path):
    from milozero.experiment.status import Counters, Status

    Status(tmp_path, Counters(iteration=3)).write("running", "")
    status = states.read_status(tmp_path)
    assert status["host"] == socket.gethostname()
    assert abs(states.last_heartbeat(tmp_path, status) - time.time()) < 5
    assert states.last_heartbeat(tmp_path, {"time": "yesterday"}) == 0
    (tmp_path / "status.json").write_text(json.dumps([1]))
    assert states.read_status(tmp_path) == {}
