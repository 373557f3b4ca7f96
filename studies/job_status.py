"""How far the jobs of a study are, from what they and their launcher leave on the disk and know."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from milozero.studies.folder import Record, StudyFolder
from milozero.studies.launchers.base import launcher_class
from milozero.tracking.csv import read_last_values

if TYPE_CHECKING:
    from milozero.studies.jobs import Job

COLOURS = {"pending": "yellow", "running": "cyan", "finished": "green", "stopped": "magenta", "failed": "red"}
STATES = ("pending", "running", "finished", "stopped", "failed", "not started")
TERMINATED = 143  # by SIGTERM: a canceled job, which may have saved all the same
TAIL = 64 * 1024  # bytes at the end of a file, which surely hold its last lines


@dataclass(frozen=True)
class Report:
    """One job."""

    name: str
    state: str  # one of `STATES`
    reason: str  # why it stopped or failed
    progress: float  # from 0 to 1
    metrics: Mapping[str, Any] = field(default_factory=dict)  # the last that there are
    log: Path = Path()


def report(folder: StudyFolder, record: Record) -> list[Report]:
    """Return how far each job of a study is.

    Raises:
        UserError: where a launcher cannot say which of its jobs are at work.
    """
    active: dict[str, str] = {}
    for deployment in {job["deployment"] for job in record.jobs.values() if job["job_id"]}:
        launcher = launcher_class(deployment)(folder, record.launched(deployment))
        active |= launcher.active(job_ids(record, deployment))
    return [_report(folder, name, job, active.get(name)) for name, job in record.jobs.items()]


def job_ids(record: Record, deployment: str) -> dict[str, str]:
    """Return name → place of the jobs that a launcher has started."""
    return {n: job["job_id"] for n, job in record.jobs.items() if job["deployment"] == deployment and job["job_id"]}


def _report(folder: StudyFolder, name: str, job: Mapping[str, Any], active: str | None) -> Report:
    logs = folder.data / "logs" / name
    status = folder.status(name)
    state, reason = _state(folder, name, job, status, active)
    log = logs / "log.txt"
    metrics: dict[str, Any] = {key: status[key] for key in ("iteration", "timesteps") if key in status}
    metrics |= last_row(logs / "progress.csv")  # written more often
    share = progress(metrics, job["settings"])
    return Report(name, state, reason, share, metrics, log if log.exists() else folder.output(name))


def _state(
    folder: StudyFolder, name: str, job: Mapping[str, Any], status: Mapping[str, Any], active: str | None
) -> tuple[str, str]:
    begun = (folder.data / "logs" / name).exists() or bool(tail(folder.output(name)))
    said, reason, code = status.get("state"), str(status.get("reason", "")), folder.read_exit_code(name)
    if active:  # first: a run that is made longer said before that it had finished
        return active, ""
    if said == "finished":
        longer = not _is_over(status, job["settings"])
        return ("stopped", "it had finished, and is to go on") if longer else ("finished", "")
    if not job["job_id"]:
        return "not started", ""
    if said == "stopped" and code in (None, 0, TERMINATED):
        return "stopped", reason
    if said is None and (code in (0, TERMINATED) or (code is None and not begun)):
        return "stopped", "before it began"
    if said == "failed":
        return "failed", reason
    last = last_error(folder.output(name))
    ending = "it was killed" if code is None else f"exit code {code}"
    return "failed", f"{ending}: {last}" if last else ending


def progress(counters: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the share of a run that is done, from 0 to 1, by its ``timesteps`` and ``iteration``."""
    lengths = (("timesteps", "num_timesteps"), ("iteration", "num_iters"))
    shares = [float(counters.get(done, 0)) / settings[length] for done, length in lengths if settings.get(length)]
    return min(max(shares, default=0.0), 1.0)


def has_finished(folder: StudyFolder, name: str, settings: Mapping[str, Any]) -> bool:
    """Tell whether a run has come to the end that these settings give it."""
    status = folder.status(name)
    return status.get("state") == "finished" and _is_over(status, settings)


def _is_over(status: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Tell whether a run that has finished is not to go on: for its length, or as there was no more to learn."""
    return bool(status.get("learned")) or progress(status, settings) >= 1


def tail(path: Path) -> list[str]:
    """Return the last lines of a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.path.getsize(path) - TAIL))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def last_error(path: Path) -> str:
    """Return the last line that says what went wrong."""
    lines = [line.strip() for line in tail(path) if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or [line for line in lines if "error" in line.lower()] or lines or [""])[-1]


def last_row(path: Path) -> dict[str, float]:
    """Return metric → its last measured value in a ``progress.csv``."""
    return read_last_values(path)


def summary(reports: Sequence[Report]) -> str:
    """Return how many jobs are in which state."""
    counts = Counter(report.state for report in reports)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def progress_table(reports: Sequence[Report]) -> Table:
    """Return a row for each job: its state, how far it is, how fast, how good, and where its log is."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("job", overflow="fold")
    table.add_column("state")
    for title in ("done", "iteration", "steps", "steps/s", "return"):
        table.add_column(title, justify="right")
    table.add_column("log", overflow="fold")
    for row in reports:
        metrics = row.metrics
        numbers = [
            f"{metrics[key]:{form}}" if key in metrics else ""
            for key, form in (
                ("iteration", ",.0f"),
                ("timesteps", ",.0f"),
                ("steps_per_second", ",.0f"),
                ("return_mean", ",.1f"),
            )
        ]
        state = Text(row.state, style=COLOURS.get(row.state, ""))
        log = relative(row.log) if row.log.exists() else ""
        table.add_row(Text(row.name), state, f"{row.progress:.0%}", *numbers, Text(log))
    return table


def plan_table(jobs: Sequence[Job]) -> Table:
    """Return a row for each job that would run, with what distinguishes it from the others."""
    values = [job.values() for job in jobs]
    named = {"uuid", "env_id", "seed", "expert_path", "num_workers"}  # in columns of their own, or follow from these
    varied = [name for name in values[0] if name not in named and len({str(value[name]) for value in values}) > 1]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("job", no_wrap=True)
    table.add_column("environment", overflow="fold")
    table.add_column("seed", justify="right")
    table.add_column("workers", justify="right")
    if varied:
        table.add_column("differs in")
    for job, value in zip(jobs, values, strict=True):
        cells = [job.name, value["env_id"], value["seed"], job.workers]
        if varied:
            cells.append(" ".join(f"{name}={value[name]}" for name in varied))
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table


def relative(path: Path) -> str:
    """Return a path as seen from here, where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def show(table: Table) -> None:
    """Print a table: as wide as a terminal, and whole where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)
    console.print(table)
