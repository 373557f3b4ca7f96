"""State and progress of a study's jobs, from their files and their launcher."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from milozero.helpers.files import open_regular
from milozero.helpers.logging import convert_output_errors, is_quiet
from milozero.studies.folder import StudyFolder, StudyMetadata
from milozero.studies.jobs import Job
from milozero.studies.launchers.base import Launcher, launcher_class
from milozero.tracking.csv import read_last_values

STATE_COLORS = {"pending": "yellow", "running": "cyan", "finished": "green", "stopped": "magenta", "failed": "red"}
STATES = ("pending", "running", "finished", "stopped", "failed", "not started")
DISPENSABLE = ("steps/s", "iteration", "steps", "training return")  # columns of the status, first to leave out first
MAX_WIDTH = 1000  # of a table that is not printed to a terminal
SIGTERM_EXIT_CODE = 143  # of a canceled job, which may still have saved a checkpoint
TAIL_BYTES = 64 * 1024  # enough to hold the last lines of a file


@dataclass(frozen=True)
class JobStatus:
    """State and progress of one job."""

    name: str
    state: str  # one of `STATES`
    reason: str  # why the job stopped or failed
    progress: float  # from 0 to 1
    metrics: Mapping[str, Any] = field(default_factory=dict)  # latest value of each
    log: Path = Path()


def read_job_status(folder: StudyFolder, metadata: StudyMetadata) -> list[JobStatus]:
    """Return the status of each job of a study.

    Raises:
        UserError: if a launcher cannot report which jobs are active.
    """
    active: dict[str, str] = {}
    for launcher, job_ids in started_jobs(folder, metadata):
        active |= launcher.active(job_ids)
    return [_read_status(folder, name, job, active.get(name)) for name, job in metadata.jobs.items()]


def started_jobs(folder: StudyFolder, metadata: StudyMetadata) -> Iterator[tuple[Launcher, dict[str, str]]]:
    """Yield each launcher that has started jobs, and their names → job ids."""
    started = {name: job for name, job in metadata.jobs.items() if job["job_id"]}
    for deployment in sorted({job["deployment"] for job in started.values()}):
        job_ids = {name: job["job_id"] for name, job in started.items() if job["deployment"] == deployment}
        yield launcher_class(deployment)(folder, metadata.launch_config(deployment=deployment)), job_ids


def _read_status(folder: StudyFolder, name: str, job: Mapping[str, Any], active: str | None) -> JobStatus:
    logs = folder.data_dir / "logs" / name
    status = folder.read_status(name)
    state, reason = _infer_state(folder, name, job, status, active)
    metrics: dict[str, Any] = {key: status[key] for key in ("iteration", "timesteps") if key in status}
    metrics |= read_last_values(logs / "progress.csv")  # written more often
    progress = compute_progress(metrics, job["settings"])
    log = logs / "log.txt"
    return JobStatus(name, state, reason, progress, metrics, log if log.exists() else folder.job_file(name, ".out"))


def _infer_state(
    folder: StudyFolder, name: str, job: Mapping[str, Any], status: Mapping[str, Any], active: str | None
) -> tuple[str, str]:
    """Return the state of a job and the reason for it."""
    output = folder.job_file(name, ".out")
    has_begun = (folder.data_dir / "logs" / name).exists() or bool(read_tail(output))
    run_state, reason, code = status.get("state"), str(status.get("reason", "")), folder.read_exit_code(name)
    if active:  # first: the status.json of an extended run still reads "finished"
        return active, ""
    if run_state == "finished":
        complete = _is_complete(status, job["settings"])
        return ("finished", "") if complete else ("stopped", "finished, but the study now asks for a longer run")
    if not job["job_id"]:
        return "not started", ""
    if run_state == "stopped" and code in (None, 0, SIGTERM_EXIT_CODE):
        return "stopped", reason
    if run_state is None and (code in (0, SIGTERM_EXIT_CODE) or (code is None and not has_begun)):
        return "stopped", "before it began"
    if run_state == "failed":
        return "failed", reason
    error = read_last_error(output)
    ending = "it was killed" if code is None else f"exit code {code}"
    return "failed", f"{ending}: {error}" if error else ending


def compute_progress(counters: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the completed fraction of a run, from its ``timesteps`` and ``iteration``."""
    limits = (("timesteps", "num_timesteps"), ("iteration", "num_iters"))
    fractions = [float(counters.get(done, 0)) / settings[limit] for done, limit in limits if settings.get(limit)]
    return min(max(fractions, default=0.0), 1.0)


def has_finished(folder: StudyFolder, name: str, settings: Mapping[str, Any]) -> bool:
    """Return whether a run has finished and is as long as `settings` require."""
    status = folder.read_status(name)
    return status.get("state") == "finished" and _is_complete(status, settings)


def _is_complete(status: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Return whether a finished run needs no more training: it has its full length or its agent converged."""
    return bool(status.get("learned")) or compute_progress(status, settings) >= 1


def read_tail(path: Path) -> list[str]:
    """Return the last lines of a file; empty if it cannot be read."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.path.getsize(path) - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def read_last_error(path: Path) -> str:
    """Return the last line of an output that reports an error, else its last line."""
    lines = [line.strip() for line in read_tail(path) if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or [line for line in lines if "error" in line.lower()] or lines or [""])[-1]


def summarize(jobs: Sequence[JobStatus]) -> str:
    """Return the number of jobs in each state."""
    counts = Counter(job.state for job in jobs)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def build_status_table(jobs: Sequence[JobStatus], console: Console) -> Table:
    """Return a table of the jobs' states, progress, speed and returns in training.

    If the console is too narrow, columns are left out instead of breaking names and numbers.
    """
    metrics = {
        "iteration": ("iteration", ",.0f"),
        "steps": ("timesteps", ",.0f"),
        "steps/s": ("steps_per_second", ",.0f"),
        "training return": ("return_mean", ",.1f"),
    }
    titles = list(metrics)
    while True:
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("job", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for title in ("done", *titles):
            table.add_column(title, justify="right", no_wrap=True)
        for job in jobs:
            cells = [(job.metrics.get(name), form) for name, form in map(metrics.__getitem__, titles)]
            numbers = ["" if value is None else f"{value:{form}}" for value, form in cells]
            state = Text(job.state, style=STATE_COLORS.get(job.state, ""))
            table.add_row(Text(job.name), state, f"{job.progress:.0%}", *numbers)
        unlimited = console.options.update(max_width=MAX_WIDTH)
        if not titles or Measurement.get(console, unlimited, table).maximum <= console.width:
            return table
        titles.remove(next(title for title in DISPENSABLE if title in titles))


def build_plan_table(jobs: Sequence[Job], console: Console) -> Table:
    """Return a table of the jobs to run, with the settings in which they differ.

    If the console is too narrow, seed and environment, which are also in the jobs' names, are left out.
    """
    columns = {"environment": "env_id", "seed": "seed"}
    while True:
        table = _build_plan_table(jobs, columns)
        unlimited = console.options.update(max_width=MAX_WIDTH)
        if not columns or Measurement.get(console, unlimited, table).minimum <= console.width:
            return table
        columns.popitem()


def _build_plan_table(jobs: Sequence[Job], columns: Mapping[str, str]) -> Table:
    """Return a table of the jobs to run, also with these columns, title → setting."""
    settings = [job.to_dict() for job in jobs]
    shown = {"uuid", "env_id", "seed", "expert_path", "num_workers"}  # have a column, or follow from one
    varied = [name for name in settings[0] if name not in shown and len({str(each[name]) for each in settings}) > 1]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("job", no_wrap=True)
    for title in columns:
        table.add_column(title, justify="right" if title == "seed" else "left", no_wrap=True)
    table.add_column("workers", justify="right", no_wrap=True)
    if varied:
        table.add_column("differs in")
    for job, values in zip(jobs, settings, strict=True):
        cells = [job.name, *(values[name] for name in columns.values()), job.num_workers]
        if varied:
            cells.append(" ".join(f"{name}={values[name]}" for name in varied))
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table


def relative(path: Path) -> str:
    """Return a path relative to the working directory if it is inside it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


@convert_output_errors()
def print_table(build: Callable[[Console], Table]) -> None:
    """Build a table for a console as wide as the terminal, or of any width if stdout is not a terminal; print it.

    With ``--quiet``, do nothing.

    Raises:
        UserError: if stdout cannot be written.
    """
    if is_quiet():
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=MAX_WIDTH)
    console.print(build(console))
