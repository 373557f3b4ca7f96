"""Selecting the runs of a report, and reading their logs and states."""

import json
import math
import socket
import time

import pytest

from milozero.experiment.status import Counters, Status, read_status
from milozero.helpers.errors import UserError
from milozero.helpers.locks import Lock
from milozero.reports import run_states, runs
from milozero.reports.formats import RENDERERS
from milozero.reports.scores import build_study
from milozero.studies.folder import StudyFolder, StudyMetadata
from milozero.tracking.csv import parse_progress
from tests.support import runs as logs

NAMES = ["hop", "hop.a.seed00", "hopper", "walkers.Hopper-v5.seed00", "walkers.Hopper-v5.seed01", "we,ird"]


@pytest.mark.parametrize(
    ("study", "expected"),
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
def test_runs_are_selected_by_name_prefix_or_pattern(study, expected):
    assert runs.select_runs(reversed(NAMES), study) == expected


def test_unknown_study_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match=r"no matching runs; did you mean 'walkers'"):
        runs.select_runs(NAMES, "walker")
    with pytest.raises(UserError, match=r"--study=zzz: .*; available: hop, hopper, walkers, we,ird$"):
        runs.select_runs(NAMES, "hop,zzz")
    with pytest.raises(UserError, match=r"no matching runs$"):
        runs.select_runs([], "hop")


def test_exact_name_takes_precedence_over_a_pattern():
    assert runs.select_runs(["a[1]", "a1"], "a[1]") == ["a[1]"]


@pytest.mark.parametrize("text", ["", "iteration", "iteration,timesteps\n", "\n\n", "a,b\n1,2\n"])
def test_run_without_rows_has_no_series(tmp_path, text):
    columns, _ = parse_progress(text)
    run = runs.Run("x", {}, "running", "", tmp_path, columns)
    assert len(run.series("return_mean")[0]) == 0
    assert math.isnan(run.score("return_mean"))
    assert math.isnan(run.steps)


def test_last_row_of_a_duplicate_step_counts(tmp_path):
    columns, _ = parse_progress("timesteps,return_mean\n1000,1\n2000,2\n1000,7\n3000,inf\n")
    steps, values = runs.Run("x", {}, "running", "", tmp_path, columns).series("return_mean")
    assert (steps.tolist(), values.tolist()) == ([1000, 2000], [7, 2])


def test_read_run_matches_its_log(tmp_path):
    logs.log_run(tmp_path, "s.trial007.seed03", seed=3, evaluations=[10, 20, 15], p_lr=0.01)
    (run,) = runs.read_runs(tmp_path, "s")
    assert (run.env_id, run.algo, run.config["seed"], run.trial) == ("Hopper-v5", "ppo", 3, "007")
    assert (run.state, run.reason, run.problems) == ("finished", "", ())
    assert (run.steps, run.count("iteration"), run.speed) == (6000, 6, 500)
    assert (run.score("eval_return"), run.best("eval_return")) == (15, 20)
    assert run.log == tmp_path / "logs/s.trial007.seed03/log.txt"


@pytest.mark.parametrize("config", [None, b"\xff\xfe", b"[", b"a: [", b"- 1", b"env_id: 3\nalgo: ppo", b"[" * 5000])
def test_run_without_readable_settings_is_kept_and_reported(tmp_path, config):
    folder = logs.log_run(tmp_path, "s", evaluations=[1])
    (folder / "config.yaml").unlink()
    if config is not None:
        (folder / "config.yaml").write_bytes(config)
    (run,) = runs.read_runs(tmp_path, "s")
    assert (run.config, run.steps) == ({}, 2000)
    assert "config.yaml" in run.problems[0]


def test_damaged_rows_are_reported(tmp_path):
    path = logs.log_run(tmp_path, "s", evaluations=[1]) / "progress.csv"
    path.write_text(path.read_text() + "1,2\n")
    (run,) = runs.read_runs(tmp_path, "s")
    assert (run.steps, run.problems) == (2000, ("damaged lines in progress.csv: 1",))


def test_unreadable_metrics_are_reported_but_missing_ones_are_not(tmp_path):
    path = logs.log_run(tmp_path, "s", evaluations=[1]) / "progress.csv"
    path.unlink()
    assert runs.read_runs(tmp_path, "s")[0].problems == ()
    path.mkdir()
    assert runs.read_runs(tmp_path, "s")[0].problems == ("cannot read progress.csv: Is a directory",)


def test_missing_log_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the logs in .*logs: No such file"):
        runs.read_runs(tmp_path, "s")


def state(tmp_path, name="s"):
    (run,) = runs.read_runs(tmp_path, name)
    return run.state, run.reason


def test_final_state_in_the_status_file_counts(tmp_path):
    folder = logs.log_run(tmp_path, "s", evaluations=[1])
    logs.write_status(folder, "failed", "a loss is NaN")
    assert state(tmp_path) == ("failed", "a loss is NaN")
    (folder / "status.json").write_text("{")
    assert state(tmp_path)[0] == "unknown"


def test_run_that_holds_its_lock_is_running_whatever_its_status(tmp_path):
    folder, checkpoints = logs.log_run(tmp_path, "s", evaluations=[1]), tmp_path / "checkpoints/s"
    checkpoints.mkdir(parents=True)
    lock = Lock(checkpoints)
    for status in ("running", "stopped"):  # "stopped" is from before the run was resumed
        logs.write_status(folder, status)
        assert state(tmp_path) == ("running", "")
    lock.release()
    logs.write_status(folder, "running")
    assert state(tmp_path) == ("failed", "it was killed")


def test_silent_run_on_another_machine_has_failed_after_its_watchdogs_limit(tmp_path):
    folder = logs.log_run(tmp_path, "s", evaluations=[1], watchdog="00:10:00")
    (folder / "progress.csv").unlink()
    logs.write_status(folder, "running", host="far.away", when=time.time() - 500)
    assert state(tmp_path) == ("running", "")
    logs.write_status(folder, "running", host="far.away", when=time.time() - 700)
    assert state(tmp_path)[0] == "failed"
    assert "no heartbeat since 20" in state(tmp_path)[1]


def test_recent_row_is_a_heartbeat(tmp_path):
    folder = logs.log_run(tmp_path, "s", evaluations=[1])
    logs.write_status(folder, "running", host="far.away", when=time.time() - 1e6)
    assert state(tmp_path) == ("running", "")


def test_run_on_another_machine_without_watchdog_never_fails(tmp_path):
    folder = logs.log_run(tmp_path, "s", watchdog="0")
    (folder / "progress.csv").unlink()
    logs.write_status(folder, "running", host="far.away", when=time.time() - 1e6)
    assert state(tmp_path) == ("running", "")


@pytest.fixture
def study(tmp_path):
    """A study of two jobs, one of which has started."""
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


def test_job_that_has_not_started_is_a_run_too(study, tmp_path):
    done, waiting = runs.read_runs(tmp_path, "st")
    assert (done.state, waiting.state, waiting.env_id) == ("finished", "not started", "Hopper-v5")


def test_launcher_reports_why_a_job_failed(study, tmp_path):
    logs.write_status(tmp_path / "logs/st.a", "running")
    study.job_file("st.a", ".exit").write_text("137")
    study.job_file("st.a", ".out").write_text("error: no memory\n")
    assert state(tmp_path, "st.a") == ("failed", "exit code 137: error: no memory")


def test_launcher_is_ignored_for_runs_on_another_machine(study, tmp_path):
    logs.write_status(tmp_path / "logs/st.a", "running", host="far.away")
    assert state(tmp_path, "st.a") == ("running", "")


def test_launcher_that_does_not_respond_is_ignored(study, tmp_path, monkeypatch):
    def fail(*_):
        raise UserError("Slurm does not answer")

    monkeypatch.setattr("milozero.studies.launchers.tmux.Tmux.active", fail)
    assert state(tmp_path, "st.a") == ("finished", "")
    (study.path / "study.json").write_text("{")
    assert run_states.find_launched_jobs(tmp_path) == {}


def test_heartbeat_of_a_real_status_file(tmp_path):
    Status(tmp_path, Counters(iteration=3)).write("running", "")
    status = read_status(tmp_path)
    assert status["host"] == socket.gethostname()
    assert abs(run_states.last_heartbeat(tmp_path, status) - time.time()) < 5
    assert run_states.last_heartbeat(tmp_path, {"time": "yesterday"}) == 0
    (tmp_path / "status.json").write_text(json.dumps([1]))
    assert read_status(tmp_path) == {}


HUGE = "9" * 400
COLUMNS = "iteration,timesteps,return_mean,eval_return"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.yaml", "[" * 200_000, "config.yaml is missing or unreadable"),
        ("config.yaml", "- " * 200_000, "config.yaml is missing or unreadable"),
        ("config.yaml", "{a: " * 100_000, "config.yaml is missing or unreadable"),
        ("config.yaml", "algo: !!int ''", "config.yaml is missing or unreadable"),
        ("config.yaml", "algo: !!bool x", "config.yaml is missing or unreadable"),
        ("config.yaml", f"algo: ppo\nenv_id: Hopper-v5\np_lr: {HUGE}\nexpert_return: {HUGE}\nnum_workers: [[]]", ""),
        ("config.yaml", "algo: ppo\nenv_id: Hopper-v5\np_lr: 1e+308\nexpert_return: .inf", ""),
        ("status.json", "[" * 100_000, ""),
        ("status.json", '{"state": ' * 100_000, ""),
        ("status.json", f'{{"state": "stopped", "timesteps": {HUGE}, "reason": [[]]}}', ""),
        ("progress.csv", f"{COLUMNS}\n1,1e308,1e308,-1e308\n2,2e308,1e308,1e308\n", ""),
        ("progress.csv", f"{COLUMNS}\n{HUGE},{HUGE},{HUGE},{HUGE}\n", ""),
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_broken_run_does_not_break_the_report_of_others(tmp_path, name, content, problem):
    logs.log_run(tmp_path, "s.good", evaluations=[1.0, 2.0])
    folder = logs.log_run(tmp_path, "s.bad", seed=1, evaluations=[1.0, 3.0])
    (folder / name).write_text(content)
    bad, good = runs.read_runs(tmp_path, "s")
    assert good.series("eval_return")[1].tolist() == [1.0, 2.0]
    assert problem in " ".join(bad.problems)
    assert not any(bad.series("eval_return")[1] > 10)
    whole = build_study([bad, good])
    for suffix, render in RENDERERS.items():
        assert render(whole, "s", tmp_path, tmp_path / "s")[suffix]


@pytest.mark.parametrize(
    "content", [pytest.param("[" * 100_000, id="deep"), '{"jobs": {"st.b": {"settings": "", "deployment": "tmux"}}}']
)
def test_unreadable_study_does_not_break_the_report_of_others(tmp_path, content):
    logs.log_run(tmp_path, "s", evaluations=[1.0, 2.0])
    folder = StudyFolder(str(tmp_path), "st")
    folder.path.mkdir(parents=True)
    (folder.path / "study.json").write_text(content)
    assert state(tmp_path) == ("finished", "")


@pytest.mark.parametrize("setting", [{"num_timesteps": "many"}, {"num_timesteps": {}}, {"num_iters": -0.0}])
def test_job_with_odd_settings_does_not_break_the_report(study, tmp_path, setting):
    path = study.path / "study.json"
    content = json.loads(path.read_text())
    content["jobs"]["st.a"]["settings"] |= setting
    path.write_text(json.dumps(content))
    assert [run.name for run in runs.read_runs(tmp_path, "st")] == ["st.a", "st.b"]
