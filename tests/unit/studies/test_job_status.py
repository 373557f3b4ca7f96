import json

import pytest

from milozero.studies import job_status as reports
from milozero.studies.folder import Record, StudyFolder

SETTINGS = {"uuid": "s.j", "num_timesteps": 1000, "num_iters": None}


@pytest.fixture
def study(tmp_path):
    folder = StudyFolder(str(tmp_path), "s")
    folder.path.mkdir(parents=True)
    return folder


def seen(folder, place="here", status=None, rows="", code=None, output=""):
    """Return the report of a job that has left this behind, and that no launcher has at work."""
    logs = folder.data / "logs/s.j"
    if status or rows:
        logs.mkdir(parents=True, exist_ok=True)
    if status:
        (logs / "status.json").write_text(json.dumps(status))
    if rows:
        (logs / "progress.csv").write_text(rows)
    if code is not None:
        folder.exit_code("s.j").write_text(f"{code}\n")
    if output:
        folder.output("s.j").write_text(output)
    record = Record({}, {"s.j": {"settings": SETTINGS, "deployment": "tmux", "job_id": place}})
    (found,) = reports.report(folder, record)
    return found


@pytest.mark.parametrize(
    ("left", "state", "reason"),
    [
        ({"job_id": ""}, "not started", ""),
        ({"status": {"state": "finished", "timesteps": 1000}, "code": 0}, "finished", ""),
        (
            {"status": {"state": "finished", "timesteps": 900}, "code": 0},
            "stopped",
            "it had finished, and is to go on",
        ),
        ({}, "stopped", "before it began"),
        ({"code": 143}, "stopped", "before it began"),
        ({"status": {"state": "stopped", "reason": "SIGUSR1"}, "code": 0}, "stopped", "SIGUSR1"),
        ({"code": 0}, "stopped", "before it began"),
        ({"status": {"state": "failed", "reason": "NaN"}, "code": 1}, "failed", "NaN"),
        ({"status": {"state": "running", "reason": ""}}, "failed", "it was killed"),
        ({"status": {"state": "running"}, "code": 137}, "failed", "exit code 137"),
        ({"code": 2, "output": "hello\nerror: no such thing\nbye\n"}, "failed", "exit code 2: error: no such thing"),
        ({"code": 127, "output": "mpiexec: not found\n\n"}, "failed", "exit code 127: mpiexec: not found"),
        (
            {"status": {"state": "stopped"}, "code": 1, "output": "error: no checkpoint"},
            "failed",
            "exit code 1: error: no checkpoint",
        ),
    ],
)
def test_state_follows_from_what_a_job_left_behind(study, left, state, reason):
    found = seen(study, **left)
    assert (found.state, found.reason) == (state, reason)


def test_launcher_that_has_a_job_at_work_is_believed(study, monkeypatch):
    monkeypatch.setattr(
        "milozero.studies.launchers.tmux.Tmux.active", lambda self, places: dict.fromkeys(places, "pending")
    )
    assert seen(study, status={"state": "stopped"}).state == "pending"
    assert seen(study, status={"state": "finished", "timesteps": 1000}).state == "pending"  # and made longer


def test_progress_is_the_newer_of_status_and_rows(study):
    header = "iteration,timesteps,return_mean,steps_per_second\n"
    found = seen(
        study, status={"state": "running", "iteration": 1, "timesteps": 100}, rows=f"{header}3,300,1.5,9\n4,400,,8\n"
    )
    assert found.progress == 0.4
    assert found.metrics == {"iteration": 4, "timesteps": 400, "return_mean": 1.5, "steps_per_second": 8}


def test_last_row_of_a_long_file_and_half_a_row(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("iteration,loss\n" + "".join(f"{i},{i / 2}\n" for i in range(20_000)) + "20000")
    assert reports.last_row(path) == {"iteration": 19_999, "loss": 19_999 / 2}


def test_damaged_files_are_as_if_they_were_not_there(study):
    seen(study, status={"state": "running"})
    (study.data / "logs/s.j/status.json").write_bytes(b"{\xff")
    found = seen(study, rows="\x00\n,,\n")
    assert (found.state, found.metrics) == ("failed", {})


def test_run_has_finished_by_the_length_that_it_is_given_now(study):
    seen(study, status={"state": "finished", "timesteps": 1000, "iteration": 5})
    assert reports.has_finished(study, "s.j", SETTINGS)
    assert not reports.has_finished(study, "s.j", SETTINGS | {"num_timesteps": 2000})


def test_run_whose_agent_has_learned_all_it_could_has_finished(study):
    seen(study, status={"state": "finished", "timesteps": 500, "iteration": 2, "learned": True})
    assert reports.has_finished(study, "s.j", SETTINGS | {"num_timesteps": 2000})


def test_table_is_whole_where_there_is_no_terminal(study, capsys):
    found = seen(study, status={"state": "running"}, rows="iteration,timesteps\n4,400\n")
    reports.show(reports.progress_table([found]))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "s.j" in line]
    assert row.split()[:4] == ["s.j", "failed", "40%", "4"]
    assert reports.summary([found, found]) == "2 failed"
