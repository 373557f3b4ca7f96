"""Runs as their logs tell of them: settings, metrics, and what became of them."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from milozero.experiment.metadata import read_metadata
from milozero.helpers.errors import UserError, did_you_mean
from milozero.reports.run_states import Launched, infer_state, launched_jobs, read_status
from milozero.reports.statistics import Series, final

EVALUATION, TRAINING = "eval_return", "return_mean"
WANTED = ("iteration", "timesteps", "seconds", TRAINING, EVALUATION)  # of the columns, which may be many more


@dataclass(frozen=True)
class Run:
    """One run."""

    name: str
    config: Mapping[str, Any]  # what was run; empty where that cannot be read
    state: str  # as `states.infer_state` tells
    reason: str  # for that state
    log: Path
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)  # metric → (rows,), NaN where not measured
    counters: Mapping[str, Any] = field(default_factory=dict)  # its status.json
    problems: tuple[str, ...] = ()  # what of its logs could not be read

    @property
    def env_id(self) -> str:
        """Its environment."""
        return str(self.config.get("env_id", ""))

    @property
    def algo(self) -> str:
        """Its algorithm."""
        return str(self.config.get("algo", ""))

    @property
    def seed(self) -> str:
        """Its seed, as text."""
        return str(self.config.get("seed", ""))

    @property
    def expert_return(self) -> float:
        """Mean return of the demonstrations that it was given; NaN where it was given none."""
        value = self.config.get("expert_return")
        return float(value) if isinstance(value, int | float) else math.nan

    @property
    def trial(self) -> str:
        """The number of its trial in a sweep; nothing outside one."""
        match = re.search(r"\.trial([0-9]+)(?=\.|$)", self.name)
        return match[1] if match else ""

    def last(self, column: str) -> float:
        """Return the last value of a metric; NaN where there is none."""
        values = self.columns.get(column, np.empty(0))
        values = values[np.isfinite(values)]
        return float(values[-1]) if len(values) else math.nan

    def count(self, column: str) -> float:
        """Return how far a counter is, by the rows or by the status, which is written more rarely."""
        last, said = self.last(column), self.counters.get(column)
        return last if math.isfinite(last) or not isinstance(said, int | float) else float(said)

    @property
    def steps(self) -> float:
        """Environment steps over all workers."""
        return self.count("timesteps")

    @property
    def speed(self) -> float:
        """Environment steps a second, over the whole run."""
        seconds = self.last("seconds")
        return self.steps / seconds if seconds > 0 else math.nan

    def series(self, column: str) -> Series:
        """Return the steps at which a metric was measured, in order, and its values."""
        steps, values = self.columns.get("timesteps"), self.columns.get(column)
        if steps is None or values is None:
            return np.empty(0), np.empty(0)
        seen = np.isfinite(steps) & np.isfinite(values)
        steps, first = np.unique(steps[seen][::-1], return_index=True)  # of a step that stands twice, the later row
        return steps, values[seen][::-1][first]

    @cached_property
    def has_evaluations(self) -> bool:
        """Whether it was evaluated at all."""
        return len(self.series(EVALUATION)[0]) > 0

    def score(self, column: str) -> float:
        """Return its final score, as `statistics.final` defines it."""
        return final(self.series(column)[1])

    def best(self, column: str) -> float:
        """Return the highest value of a metric; NaN where there is none."""
        return float(max(self.series(column)[1], default=math.nan))


def read_columns(path: Path) -> tuple[dict[str, np.ndarray], int]:
    """Read the `WANTED` columns of a ``progress.csv`` that may still grow, or be damaged.

    Returns:
        metric → (rows,), NaN for what is no number, and how many lines were no rows, an unfinished last one aside.

    Raises:
        OSError: where it is there and cannot be read.
    """
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:  # nothing was logged yet
        return {}, 0
    lines = text.split("\n")[:-1]  # what has no line's end yet is being written
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    rows = [line for line in lines[1:] if line.count(",") == len(header) - 1]
    places = {name: header.index(name) for name in WANTED if name in header}
    table = _table(rows, list(places.values()))
    return dict(zip(places, table.T, strict=True)), max(len(lines) - 1, 0) - len(rows)


def _table(rows: Sequence[str], places: Sequence[int]) -> np.ndarray:
    """Return the numbers (rows, places) at some places of rows."""
    if not rows or not places:
        return np.empty((len(rows), len(places)))
    filled = [row.replace(",,", ",nan,").replace(",,", ",nan,") for row in rows]
    try:
        return np.loadtxt(filled, delimiter=",", usecols=places, comments=None, ndmin=2)
    except ValueError:  # an empty cell at a row's end, or one that is no number
        cells = [row.split(",") for row in rows]
        return np.array([[_number(row[place]) for place in places] for row in cells])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def read_run(data: Path, name: str, job: Launched | None) -> Run:
    """Return a run from what is there of its logs."""
    logs, problems = data / "logs" / name, list[str]()
    config = read_metadata(logs) or (dict(job.settings) if job else {})
    if not isinstance(config.get("env_id"), str) or not isinstance(config.get("algo"), str):
        problems.append("config.yaml is missing, or cannot be read as that of a run")
        config = {}
    columns: dict[str, np.ndarray] = {}
    damaged = 0
    try:
        columns, damaged = read_columns(logs / "progress.csv")
    except OSError as error:
        problems.append(f"progress.csv cannot be read: {error.strerror}")
    if damaged:
        problems.append(f"lines of progress.csv that are no rows: {damaged}")
    state, reason = infer_state(data, name, config, job)
    log = logs / "log.txt"
    if not log.exists() and job and job.seen:
        log = job.seen.log
    return Run(name, config, state, reason, log, columns, read_status(logs), tuple(problems))


def matching(names: Iterable[str], study: str) -> list[str]:
    """Return the names that ``--study`` selects, sorted.

    Raises:
        UserError: where a part of it selects none, with the nearest that would.
    """
    names, chosen = sorted(names), set[str]()
    for part in filter(None, (part.strip() for part in study.split(","))):
        found = {name for name in names if name == part or name.startswith(f"{part}.")}
        found = found or {n for n in names if fnmatch.fnmatchcase(n, part) or fnmatch.fnmatchcase(n, f"{part}.*")}
        if not found:
            prefixes = {name[: dot.start()] for name in names for dot in re.finditer(r"\.", name)} - {""}
            hint = did_you_mean(part, [*sorted(prefixes, key=len), *names])
            raise UserError(f"--study={part}: there are no runs of that name{hint or _there(names)}")
        chosen |= found
    return sorted(chosen)


def _there(names: Sequence[str]) -> str:
    first = sorted({name.partition(".")[0] for name in names})
    return f"; there are {', '.join(first[:10])}{' and more' if len(first) > 10 else ''}" if first else ""


def read_runs(data: Path, study: str, with_progress: Callable[[Sequence[str]], Iterable[str]] = iter) -> list[Run]:
    """Return the runs that ``--study`` selects, those too that a study has not started yet.

    Args:
        data: the folder of the logs.
        study: names, prefixes or patterns, with commas between them.
        with_progress: goes through a sequence, and shows how far it is.

    Raises:
        UserError: where there are none.
    """
    jobs = launched_jobs(data)
    try:
        there = {path.name for path in (data / "logs").iterdir() if path.is_dir()}
    except OSError as error:
        if not jobs:
            raise UserError(f"cannot read the logs in {data / 'logs'}: {error.strerror}") from None
        there = set()
    return [read_run(data, name, jobs.get(name)) for name in with_progress(matching(there | set(jobs), study))]
