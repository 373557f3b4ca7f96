"""The state of a job, from its files and its launcher."""

import dataclasses
import json

import pytest
from rich.console import Console

from milozero.studies import job_status
from milozero.studies.config import StudyConfig
from milozero.studies.folder import StudyFolder, StudyMetadata
from milozero.studies.jobs import build_jobs
from milozero.tracking.csv import read_last_values

SETTINGS = {"uuid": "s.j", "num_timesteps": 1000, "num_iters": None}


@pytest.fixture
def study(tmp_path):
    folder = StudyFolder(str(tmp_path), "s")
    folder.path.mkdir(parents=True)
    return folder


def job_with(folder, job_id="here", status=None, rows="", code=None, output=""):
    """Return the status of a job with these files that no launcher reports as active."""
    logs = folder.data_dir / "logs/s.j"
    if status or rows:
        logs.mkdir(parents=True, exist_ok=True)
    if status:
        (logs / "status.json").write_text(json.dumps(status))
    if rows:
        (logs / "progress.csv").write_text(rows)
    if code is not None:
        folder.job_file("s.j", ".exit").write_text(f"{code}\n")
    if output:
        folder.job_file("s.j", ".out").write_text(output)
    metadata = StudyMetadata({}, {"s.j": {"settings": SETTINGS, "deployment": "tmux", "job_id": job_id}})
    (job,) = job_status.read_job_status(folder, metadata)
    return job


@pytest.mark.parametrize(
    ("left", "state", "reason"),
    [
        ({"job_id": ""}, "not started", ""),
        ({"status": {"state": "finished", "timesteps": 1000}, "code": 0}, "finished", ""),
        (
            {"status": {"state": "finished", "timesteps": 900}, "code": 0},
            "stopped",
            "finished, but the study now asks for a longer run",
        ),
        ({}, "stopped", "before it began"),
        ({"code": 143}, "stopped", "before it began"),
        ({"status": {"state": "stopped", "reason": "SIGUSR1"}, "code": 0}, "stopped", "SIGUSR1"),
        ({"code": 0}, "stopped", "before it began"),
        ({"status": {"state": "failed", "reason": "NaN"}, "code": 1}, "failed", "NaN"),
        ({"status": {"state": "running", "reason": ""}}, "failed", "it was killed"),
        ({"status": {"state": "running"}, "code": 137}, "failed", "exit code 137"),
        ({"code": 2, "output": "hello\nerror: no such thing\nbye\n"}, "failed", "exit code 2: error: no such thing"),
        ({"code": 127, "output": "mpiexec: not job\n\n"}, "failed", "exit code 127: mpiexec: not job"),
        (
            {"status": {"state": "stopped"}, "code": 1, "output": "error: no checkpoint"},
            "failed",
            "exit code 1: error: no checkpoint",
        ),
    ],
)
def test_state_and_reason_follow_from_the_files(study, left, state, reason):
    job = job_with(study, **left)
    assert (job.state, job.reason) == (state, reason)


def test_launcher_overrides_the_files_of_an_active_job(study, monkeypatch):
    monkeypatch.setattr(
        "milozero.studies.launchers.tmux.Tmux.active", lambda self, job_ids: dict.fromkeys(job_ids, "pending")
    )
    assert job_with(study, status={"state": "stopped"}).state == "pending"
    assert job_with(study, status={"state": "finished", "timesteps": 1000}).state == "pending"  # extended


def test_progress_is_read_from_the_rows_if_they_are_newer_than_the_status(study):
    header = "iteration,timesteps,return_mean,steps_per_second\n"
    job = job_with(
        study, status={"state": "running", "iteration": 1, "timesteps": 100}, rows=f"{header}3,300,1.5,9\n4,400,,8\n"
    )
    assert job.progress == 0.4
    assert job.metrics == {"iteration": 4, "timesteps": 400, "return_mean": 1.5, "steps_per_second": 8}


def test_last_complete_row_of_a_long_file_is_read(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("iteration,loss\n" + "".join(f"{i},{i / 2}\n" for i in range(20_000)) + "20000")
    assert read_last_values(path) == {"iteration": 19_999, "loss": 19_999 / 2}


def test_damaged_files_are_ignored(study):
    job_with(study, status={"state": "running"})
    (study.data_dir / "logs/s.j/status.json").write_bytes(b"{\xff")
    job = job_with(study, rows="\x00\n,,\n")
    assert (job.state, job.metrics) == ("failed", {})


def test_run_that_reached_its_configured_length_has_finished(study):
    job_with(study, status={"state": "finished", "timesteps": 1000, "iteration": 5})
    assert job_status.has_finished(study, "s.j", SETTINGS)
    assert not job_status.has_finished(study, "s.j", SETTINGS | {"num_timesteps": 2000})


def test_converged_run_has_finished(study):
    job_with(study, status={"state": "finished", "timesteps": 500, "iteration": 2, "learned": True})
    assert job_status.has_finished(study, "s.j", SETTINGS | {"num_timesteps": 2000})


ROWS = "iteration,timesteps,steps_per_second,return_mean\n4,400000,12345,-1234.5\n"


def test_table_is_not_truncated_without_a_terminal(study, capsys):
    job = job_with(study, status={"state": "running"}, rows=ROWS)
    job = dataclasses.replace(job, name="s." + "long" * 30)
    job_status.print_table(lambda console: job_status.build_status_table([job], console))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "s.long" in line]
    assert row.split() == [job.name, "failed", "100%", "4", "400,000", "12,345", "-1,234.5"]
    assert job_status.summarize([job, job]) == "2 failed"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (200, ["iteration", "steps", "steps/s", "training return"]),
        (90, ["iteration", "steps", "training return"]),
        (80, ["steps", "training return"]),
        (70, ["training return"]),
        (60, []),
    ],
)
def test_narrow_terminal_gets_fewer_columns_and_whole_names(study, width, shown):
    job = dataclasses.replace(job_with(study, rows=ROWS), name="walkers.HalfCheetah-v5.seed00")
    console = Console(width=width)
    table = job_status.build_status_table([job], console)
    assert [column.header for column in table.columns] == ["job", "state", "done", *shown]
    with console.capture() as captured:
        console.print(table)
    lines = captured.get().splitlines()
    assert any(line.split()[:1] == [job.name] for line in lines)
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "shown"), [(200, ["environment", "seed"]), (105, ["environment"]), (80, [])])
def test_plan_shows_whole_names_and_settings(tmp_path, width, shown):
    task = tmp_path / "t.yaml"
    task.write_text("environments: {Pendulum: {recompute_advantages: true, rollout_len: 4096}}\n")
    bundle = "InvertedDoublePendulum,Pendulum"
    jobs = build_jobs(StudyConfig(config=str(task), data_dir=str(tmp_path), prefix="s", env_bundle=bundle))
    console = Console(width=width)
    table = job_status.build_plan_table(jobs, console)
    assert [column.header for column in table.columns] == ["job", *shown, "workers", "differs in"]
    with console.capture() as captured:
        console.print(table)
    words = captured.get().split()
    assert {*(job.name for job in jobs), "recompute_advantages=True", "rollout_len=4096"} <= set(words)
