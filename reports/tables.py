"""Tables of a report, for the page and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milozero.helpers.logging import format_duration
from milozero.reports.methods import Method, find_varying_settings, format_value, get_setting
from milozero.reports.runs import EVALUATION, Run
from milozero.reports.scores import Aggregate, Row, Study, find_swept_settings, score_row
from milozero.studies.job_status import relative

CSV_COLUMNS = (
    *("name", "env_id", "algo", "method", "seed", "trial", "state", "reason", "iterations", "steps"),
    *("score", "final", "best", "seconds", "steps_per_second", "commit", "log"),
)


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    value: float | None = None  # sort key of a numeric column
    method: str = ""  # method whose line is shown before the text
    best: bool = False  # whether to highlight the cell
    state: bool = False  # whether the text is the state of a run


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def number_cell(value: float, form: str = "") -> Cell:
    """Return a cell with a number, by default with about four digits; NaN is a dash."""
    if not math.isfinite(value):
        return Cell("–", -math.inf)
    if not form:
        form = ",.0f" if abs(value) >= 1000 else ".1f" if abs(value) >= 100 else ".2f" if abs(value) >= 1 else ".3g"
    return Cell(format(value, form).replace("-", "−"), value)


def interval_cell(bounds: tuple[float, float], form: str = "") -> Cell:
    """Return a cell with an interval, sorted by its lower bound."""
    low, high = bounds
    if not math.isfinite(low):
        return Cell("one seed", -math.inf)
    return Cell(f"{number_cell(low, form).text} … {number_cell(high, form).text}", low)


def _count_cell(count: int) -> Cell:
    return Cell(str(count), count)


def _duration_cell(seconds: float) -> Cell:
    return Cell(format_duration(seconds), float(seconds))


def _method_cell(method: Method) -> Cell:
    return Cell(method.label, method=method.label)


def scores_table(rows: Sequence[Row]) -> Table:
    """Return the final scores of each method on each environment, with the best IQM highlighted."""
    best = {env_id: max(r.iqm for r in rows if r.env_id == env_id) for env_id in {row.env_id for row in rows}}
    several = len({row.method.label for row in rows}) > 1
    cells = []
    for row in rows:
        seeds = f"{len(row.scores)}" + (f" ({row.unfinished} unfinished)" if row.unfinished else "")
        is_best = several and row.iqm == best[row.env_id]
        cells.append(
            [
                Cell(row.env_id),
                _method_cell(row.method),
                Cell(seeds, len(row.scores)),
                Cell(number_cell(row.iqm).text, row.iqm, best=is_best),
                interval_cell(row.interval),
                *(number_cell(value) for value in (row.mean, row.median, row.best)),
            ]
        )
    head = ("environment", "method", "seeds", "IQM", "95 % interval", "mean", "median", "best")
    return Table("Final score of each method on each environment", head, cells)


def aggregates_table(aggregates: Sequence[Aggregate]) -> Table:
    """Return the normalized scores over all environments."""
    rows = [
        [
            _method_cell(aggregate.method),
            _count_cell(aggregate.runs),
            number_cell(aggregate.iqm, ".3f"),
            interval_cell(aggregate.interval, ".3f"),
            number_cell(aggregate.mean, ".3f"),
        ]
        for aggregate in aggregates
    ]
    head = ("method", "runs", "IQM", "95 % interval", "mean")
    return Table("Normalized score of each method over all environments", head, rows)


def trials_table(study: Study, trials: Sequence[Method], env_id: str) -> Table:
    """Return the trials of a sweep and their settings, ranked by their score on an environment."""
    names = find_swept_settings(trials)
    rows = [row for trial in trials if (row := score_row(study, env_id, trial))]
    rows.sort(key=lambda row: -row.iqm)
    cells = []
    for rank, row in enumerate(rows, start=1):
        run = row.method.runs_on(env_id)[0]
        values = [get_setting(run, name) for name in names]
        numbers = [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else None for v in values]
        cells.append(
            [
                _count_cell(rank),
                Cell(f"trial{run.trial}", method=row.method.label),
                Cell(number_cell(row.iqm).text, row.iqm, best=rank == 1),
                _count_cell(len(row.scores)),
                *(Cell(format_value(value), number) for value, number in zip(values, numbers, strict=True)),
            ]
        )
    return Table(f"Trials on {env_id}, best first", ("rank", "trial", "IQM", "seeds", *names), cells)


def time_table(study: Study) -> Table:
    """Return duration and speed of the runs of each method on each environment."""
    rows = []
    for env_id in study.environments:
        for method in study.methods:
            runs = [run for run in method.runs_on(env_id) if math.isfinite(run.last("seconds"))]
            if runs:
                seconds = np.array([run.last("seconds") for run in runs])
                workers = sorted({int(w) for r in runs if isinstance(w := r.config.get("num_workers"), int)})
                rows.append(
                    [
                        Cell(env_id),
                        _method_cell(method),
                        _count_cell(len(runs)),
                        Cell(", ".join(map(str, workers)) or "–", workers[0] if workers else -math.inf),
                        number_cell(float(np.nanmean([run.steps for run in runs])), ",.0f"),
                        _duration_cell(seconds.mean()),
                        _duration_cell(seconds.sum()),
                        number_cell(float(np.nanmean([run.speed for run in runs])), ",.0f"),
                    ]
                )
    head = ("environment", "method", "runs", "workers", "steps per run", "time per run", "total time", "steps/s")
    return Table("Wall-clock time and speed", head, rows)


def unfinished_table(study: Study) -> Table:
    """Return the runs that are unfinished or whose logs are damaged, with the reason and the path of the log."""
    rows = [
        [
            Cell(run.name),
            Cell(run.state, state=True),
            number_cell(run.steps, ",.0f"),
            Cell("; ".join(filter(None, (run.reason, *run.problems))) or "–"),
            Cell(relative(run.log.absolute()) if run.log.exists() else "–"),
        ]
        for run in study.runs
        if run.state != "finished" or run.problems
    ]
    return Table("Unfinished runs, and runs with damaged logs", ("run", "state", "steps", "reason", "log"), rows)


def runs_to_csv(study: Study) -> bytes:
    """Return a CSV with one row per run."""
    names: dict[str, None] = {}
    for algo in sorted({run.algo for run in study.known}):
        names |= dict.fromkeys(find_varying_settings([run for run in study.known if run.algo == algo]))
    labels = {run.name: method.label for method in study.methods for run in method.runs}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*CSV_COLUMNS, *names])
    for run in study.runs:
        settings = [format_value(get_setting(run, name)) if run.config else "" for name in names]
        writer.writerow([*_csv_cells(study, run, labels.get(run.name, "")), *settings])
    return text.getvalue().encode("utf-8", errors="replace")


def _csv_cells(study: Study, run: Run, method: str) -> list[str]:
    """Return the `CSV_COLUMNS` of a run."""
    column = study.score_column(run.env_id) if run.config else EVALUATION
    numbers = [run.score(column), run.best(column), run.last("seconds"), run.speed]
    return [
        *(run.name, run.env_id, run.algo, method, run.seed, run.trial, run.state, run.reason),
        *(f"{run.count(name):.0f}" if math.isfinite(run.count(name)) else "" for name in ("iteration", "timesteps")),
        column,
        *(f"{value:.6g}" if math.isfinite(value) else "" for value in numbers),
        str(run.config.get("git_sha", "")),
        str(run.log) if run.log.exists() else "",
    ]
