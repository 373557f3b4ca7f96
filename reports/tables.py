"""Tables of a report, for the page and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milozero.reports.methods import Method, setting_value, spelled, varying
from milozero.reports.runs import EVALUATION, Run
from milozero.reports.scores import Aggregate, Row, Study, drawn_settings, score_row
from milozero.studies.job_status import relative


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    value: float | None = None  # what a column of numbers is sorted by
    method: str = ""  # whose line is shown before the text
    best: bool = False  # to be highlighted
    state: bool = False  # the text is the state of a run


@dataclass(frozen=True)
class Table:
    """A table of a page."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def number(value: float, form: str = "") -> Cell:
    """Return a cell with a number, four digits of it unless `form` says otherwise; NaN is a dash."""
    if not math.isfinite(value):
        return Cell("–", -math.inf)
    if not form:
        form = ",.0f" if abs(value) >= 1000 else ".1f" if abs(value) >= 100 else ".2f" if abs(value) >= 1 else ".3g"
    return Cell(format(value, form).replace("-", "−"), value)


def interval(bounds: tuple[float, float], form: str = "") -> Cell:
    """Return a cell with an interval, sorted by its lower bound."""
    low, high = bounds
    if not math.isfinite(low):
        return Cell("one seed", -math.inf)
    return Cell(f"{number(low, form).text} … {number(high, form).text}", low)


def _method(method: Method) -> Cell:
    return Cell(method.label, method=method.label)


def scores_table(rows: Sequence[Row]) -> Table:
    """Return the final scores of each method on each environment; the best of each environment highlighted."""
    best = {env_id: max(r.iqm for r in rows if r.env_id == env_id) for env_id in {row.env_id for row in rows}}
    several = len({row.method.label for row in rows}) > 1
    cells = []
    for row in rows:
        seeds = f"{len(row.scores)}" + (f" ({row.unfinished} not finished)" if row.unfinished else "")
        iqm = number(row.iqm)
        top = several and row.iqm == best[row.env_id]
        cells.append(
            [
                Cell(row.env_id),
                _method(row.method),
                Cell(seeds, len(row.scores)),
                Cell(iqm.text, iqm.value, best=top),
                interval(row.interval),
                *(number(value) for value in (row.mean, row.median, row.best)),
            ]
        )
    head = ("environment", "method", "seeds", "IQM", "95 % interval", "mean", "median", "best")
    return Table("Final score of each method on each environment", head, cells)


def aggregates_table(aggregates: Sequence[Aggregate]) -> Table:
    """Return the normalized scores over all environments."""
    rows = [
        [
            _method(each.method),
            Cell(str(each.runs), each.runs),
            number(each.iqm, ".3f"),
            interval(each.interval, ".3f"),
            number(each.mean, ".3f"),
        ]
        for each in aggregates
    ]
    head = ("method", "runs", "IQM", "95 % interval", "mean")
    return Table("Normalized score of each method over all environments", head, rows)


def trials_table(study: Study, trials: Sequence[Method], env_id: str) -> Table:
    """Return the trials of a sweep by their score on an environment, with what they drew."""
    names = drawn_settings(trials)
    rows = [row for trial in trials if (row := score_row(study, env_id, trial))]
    rows.sort(key=lambda row: -row.iqm)
    cells = []
    for place, row in enumerate(rows, start=1):
        run = row.method.on(env_id)[0]
        drawn = [setting_value(run, name) for name in names]
        numbers = [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else None for v in drawn]
        iqm = number(row.iqm)
        cells.append(
            [
                Cell(str(place), place),
                Cell(f"trial{run.trial}", method=row.method.label),
                Cell(iqm.text, iqm.value, best=place == 1),
                Cell(str(len(row.scores)), len(row.scores)),
                *(Cell(spelled(value), sorted_by) for value, sorted_by in zip(drawn, numbers, strict=True)),
            ]
        )
    return Table(f"Trials on {env_id}, the best first", ("rank", "trial", "IQM", "seeds", *names), cells)


def time_table(study: Study) -> Table:
    """Return how long the runs of each method took on each environment, and how fast they were."""
    rows = []
    for env_id in study.environments:
        for method in study.methods:
            runs = [run for run in method.on(env_id) if math.isfinite(run.last("seconds"))]
            if runs:
                seconds = np.array([run.last("seconds") for run in runs])
                workers = sorted({int(w) for r in runs if isinstance(w := r.config.get("num_workers"), int)})
                rows.append(
                    [
                        Cell(env_id),
                        _method(method),
                        Cell(str(len(runs)), len(runs)),
                        Cell(", ".join(map(str, workers)) or "–", workers[0] if workers else -math.inf),
                        number(float(np.nanmean([run.steps for run in runs])), ",.0f"),
                        Cell(duration(seconds.mean()), float(seconds.mean())),
                        Cell(duration(seconds.sum()), float(seconds.sum())),
                        number(float(np.nanmean([run.speed for run in runs])), ",.0f"),
                    ]
                )
    head = ("environment", "method", "runs", "workers", "steps a run", "time a run", "time in all", "steps/s")
    return Table("Wall-clock time and speed", head, rows)


def duration(seconds: float) -> str:
    """Return a time as people say it: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60:02} min"


def open_runs_table(study: Study) -> Table:
    """Return the runs that are not finished, or of whose logs something cannot be read, why, and where the log is."""
    rows = [
        [
            Cell(run.name),
            Cell(run.state, state=True),
            number(run.steps, ",.0f"),
            Cell("; ".join(filter(None, (run.reason, *run.problems))) or "–"),
            Cell(relative(run.log.absolute()) if run.log.exists() else "–"),
        ]
        for run in study.runs
        if run.state != "finished" or run.problems
    ]
    return Table("Runs that are not finished, or not whole", ("run", "state", "steps", "reason", "log"), rows)


def runs_as_csv(study: Study) -> bytes:
    """Return one row for each run."""
    names: dict[str, None] = {}
    for algo in sorted({run.algo for run in study.known}):
        names |= dict.fromkeys(varying([run for run in study.known if run.algo == algo]))
    labels = {run.name: method.label for method in study.methods for run in method.runs}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*_COLUMNS, *names])
    for run in study.runs:
        drawn = [spelled(setting_value(run, name)) if run.config else "" for name in names]
        writer.writerow([*_facts(study, run, labels.get(run.name, "")), *drawn])
    return text.getvalue().encode("utf-8", errors="replace")


_COLUMNS = (
    *("name", "env_id", "algo", "method", "seed", "trial", "state", "reason", "iterations", "steps"),
    *("score", "final", "best", "seconds", "steps_per_second", "commit", "log"),
)


def _facts(study: Study, run: Run, method: str) -> list[str]:
    column = study.column(run.env_id) if run.config else EVALUATION
    numbers = [run.score(column), run.best(column), run.last("seconds"), run.speed]
    return [
        *(run.name, run.env_id, run.algo, method, run.seed, run.trial, run.state, run.reason),
        *(f"{run.count(name):.0f}" if math.isfinite(run.count(name)) else "" for name in ("iteration", "timesteps")),
        column,
        *(f"{value:.6g}" if math.isfinite(value) else "" for value in numbers),
        str(run.config.get("git_sha", "")),
        str(run.log) if run.log.exists() else "",
    ]
