"""Read runs from their logs: settings, metrics and state."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from milozero.agents import AGENTS, config_class
from milozero.experiment.checkpoint import read_metadata
from milozero.experiment.status import read_status
from milozero.helpers.config.values import is_plain
from milozero.helpers.errors import UserError, did_you_mean
from milozero.helpers.files import read_regular
from milozero.helpers.progress import with_progress
from milozero.reports.run_states import LaunchedStudy, find_launched_jobs, infer_state
from milozero.reports.statistics import Series, final_score
from milozero.tracking.csv import parse_progress

EVALUATION, TRAINING = "eval_return", "return_mean"
METRICS = {EVALUATION: "evaluation return", TRAINING: "training return"}
STEPS, TIME, ITERATIONS = "timesteps", "seconds", "iteration"
AXES = {STEPS: "environment steps", TIME: "wall-clock time", ITERATIONS: "iterations"}  # horizontal ones of curves
REPORT_COLUMNS = (*AXES, *METRICS)  # of progress.csv, which has many more


@dataclass(frozen=True)
class Run:
    """One run."""

    name: str
    config: Mapping[str, Any]  # settings and metadata; empty if they cannot be read
    state: str  # see `run_states.infer_state`
    reason: str  # of the state
    log: Path
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)  # metric → (rows,), NaN if not measured
    counters: Mapping[str, Any] = field(default_factory=dict)  # content of status.json
    problems: tuple[str, ...] = ()  # logs that could not be read

    @property
    def env_id(self) -> str:
        """Its environment."""
        return str(self.config.get("env_id", ""))

    @property
    def algo(self) -> str:
        """Its algorithm."""
        return str(self.config.get("algo", ""))

    @property
    def learns_offline(self) -> bool:
        """Whether it learns from demonstrations alone, so that environment steps only measure its policy."""
        return self.algo in AGENTS and config_class(self.algo).learns_offline()

    @property
    def expert_return(self) -> float:
        """Mean return of its demonstrations; NaN if it had none."""
        value = self.config.get("expert_return")
        return float(value) if isinstance(value, int | float) else math.nan

    @property
    def trial(self) -> str:
        """Number of its trial in a sweep; empty if it is not part of a sweep."""
        match = re.search(r"\.trial([0-9]+)(?=\.|$)", self.name)
        return match[1] if match else ""

    def last(self, column: str) -> float:
        """Return the last value of a metric; NaN if there is none."""
        values = self.columns.get(column, np.empty(0))
        values = values[np.isfinite(values)]
        return float(values[-1]) if len(values) else math.nan

    def count(self, column: str) -> float:
        """Return a counter from progress.csv, or else from status.json, which is written less often."""
        last, counter = self.last(column), self.counters.get(column)
        return last if math.isfinite(last) or not isinstance(counter, int | float) else float(counter)

    @property
    def steps(self) -> float:
        """Environment steps over all workers."""
        return self.count(STEPS)

    @property
    def speed(self) -> float:
        """Environment steps per second, over the whole run."""
        seconds = self.last(TIME)
        return self.steps / seconds if seconds > 0 else math.nan

    def series(self, column: str, axis: str = STEPS) -> Series:
        """Return where on an axis, one of `AXES`, a metric was measured, increasing, and its values."""
        positions, values = self.columns.get(axis), self.columns.get(column)
        if positions is None or values is None:
            return np.empty(0), np.empty(0)
        measured = np.isfinite(positions) & np.isfinite(values)
        # reversed: the last duplicate counts
        positions, first = np.unique(positions[measured][::-1], return_index=True)
        return positions, values[measured][::-1][first]

    @cached_property
    def has_evaluations(self) -> bool:
        """Whether the run was evaluated at least once."""
        return len(self.series(EVALUATION)[0]) > 0

    def score(self, column: str) -> float:
        """Return the final score, see `statistics.final_score`."""
        return final_score(self.series(column)[1])

    def best(self, column: str) -> float:
        """Return the highest value of a metric; NaN if there is none."""
        return float(max(self.series(column)[1], default=math.nan))


def mean_expert_return(runs: Sequence[Run]) -> float:
    """Return the mean return of the runs' demonstrations; NaN if they had none."""
    returns = [run.expert_return for run in runs if math.isfinite(run.expert_return)]
    return sum(returns) / len(returns) if returns else math.nan


def read_run(data: Path, name: str, launched: LaunchedStudy | None) -> Run:
    """Read a run from its logs; unreadable files become its `problems`."""
    logs, problems = data / "logs" / name, list[str]()
    config = read_metadata(logs) or {}
    if not config and launched:
        config = {key: value for key, value in launched.metadata.jobs[name]["settings"].items() if is_plain(value)}
    if not isinstance(config.get("env_id"), str) or not isinstance(config.get("algo"), str):
        problems.append("config.yaml is missing or unreadable")
        config = {}
    columns: dict[str, np.ndarray] = {}
    try:
        columns, num_damaged = parse_progress(
            read_regular(logs / "progress.csv").decode(errors="replace"), REPORT_COLUMNS
        )
        if num_damaged:
            problems.append(f"damaged lines in progress.csv: {num_damaged}")
    except FileNotFoundError:
        pass  # the run has not logged anything yet
    except OSError as error:
        problems.append(f"cannot read progress.csv: {error.strerror}")
    state, reason = infer_state(data, name, config, launched)
    log = logs / "log.txt"
    if not log.exists() and launched and name in launched.jobs:
        log = launched.jobs[name].log
    return Run(name, config, state, reason, log, columns, read_status(logs), tuple(problems))


def select_runs(names: Iterable[str], study: str) -> list[str]:
    """Return the names that ``--study`` selects, sorted.

    Raises:
        UserError: if a part of it selects no run; the message suggests similar names.
    """
    names, selected = sorted(names), set[str]()
    for part in filter(None, (part.strip() for part in study.split(","))):
        matches = {name for name in names if name == part or name.startswith(f"{part}.")}
        matches = matches or {n for n in names if fnmatch.fnmatchcase(n, part) or fnmatch.fnmatchcase(n, f"{part}.*")}
        if not matches:
            prefixes = {name[: dot.start()] for name in names for dot in re.finditer(r"\.", name)} - {""}
            hint = did_you_mean(part, [*sorted(prefixes, key=len), *names])
            raise UserError(f"--study={part}: no matching runs{hint or _list_studies(names)}")
        selected |= matches
    return sorted(selected)


def _list_studies(names: Sequence[str], limit: int = 10) -> str:
    studies = sorted({name.partition(".")[0] for name in names})
    more = " and more" if len(studies) > limit else ""
    return f"; available: {', '.join(studies[:limit])}{more}" if studies else ""


def read_runs(data: Path, study: str) -> list[Run]:
    """Read the runs that ``--study`` selects, including jobs of a study that have not started yet.

    Raises:
        UserError: if there are no such runs.
    """
    jobs = find_launched_jobs(data)
    try:
        logged = {path.name for path in (data / "logs").iterdir() if path.is_dir()}
    except OSError as error:
        if not jobs:
            raise UserError(f"cannot read the logs in {data / 'logs'}: {error.strerror}") from None
        logged = set()
    return [read_run(data, name, jobs.get(name)) for name in with_progress(select_runs(logged | set(jobs), study))]
