"""Tables of a report's page; the first column, and the number in the second, stay in sight on a narrow screen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.helpers.logging import format_duration
from milozero.helpers.numbers import format_number
from milozero.reports.methods import Method, format_value, get_setting, method_settings
from milozero.reports.runs import EVALUATION, TIME, Run, mean_expert_return
from milozero.reports.scores import MIN_SEEDS, Aggregate, Row, Study, find_swept_settings
from milozero.studies.job_status import relative

SCORES_CAPTION = "Final score of each method on each environment"
ABLATION_SETTING = "d_ablation"
ABLATIONS = {"shuffled": "% shuffled demos", "none": "% without demos"}  # value → column title


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
    rows: Sequence[Mapping[str, Cell]]  # title of the column → cell


def number_cell(value: float, form: str = "") -> Cell:
    """Return a cell with a number, see `format_number`; the sort key of NaN is the lowest."""
    return Cell(format_number(value, form), value if math.isfinite(value) else -math.inf)


def interval_cell(bounds: tuple[float, float], form: str = "") -> Cell:
    """Return a cell with an interval, sorted by its lower bound."""
    low, high = bounds
    if not math.isfinite(low):
        return Cell(f"needs {MIN_SEEDS} seeds", -math.inf)
    return Cell(f"{number_cell(low, form).text} … {number_cell(high, form).text}", low)


def _count_cell(count: int) -> Cell:
    return Cell(str(count), count)


def _duration_cell(seconds: float) -> Cell:
    return Cell(format_duration(seconds), float(seconds))


def _method_cell(method: Method) -> Cell:
    return Cell(method.label, method=method.label)


def get_ablation(method: Method) -> str:
    """Return the kind of ablation of a method; empty if it is none."""
    kind = str(get_setting(method.runs[0], ABLATION_SETTING))
    return kind if kind in ABLATIONS else ""


def scores_table(rows: Sequence[Row]) -> Table:
    """Return the final scores of each method on each environment.

    Statistics need `MIN_SEEDS` seeds. The best IQM of an environment is highlighted if each method has as many.
    """
    compared = {env_id: [row for row in rows if row.env_id == env_id] for env_id in {row.env_id for row in rows}}
    best = {
        env_id: max(row.iqm for row in group)
        for env_id, group in compared.items()
        if len(group) > 1 and min(len(row.scores) for row in group) >= MIN_SEEDS
    }
    if all(len(row.scores) < MIN_SEEDS for row in rows):
        return _few_seeds_table(rows)
    cells = []
    for row in rows:
        enough = len(row.scores) >= MIN_SEEDS
        cells.append(
            {
                **_row_start(row),
                "IQM": Cell(number_cell(row.iqm).text, row.iqm, best=row.iqm == best.get(row.env_id)),
                "95 % interval": interval_cell(row.interval),
                "seeds": _seeds_cell(row),
                "mean": number_cell(row.mean if enough else math.nan),
                "median": number_cell(row.median if enough else math.nan),
                "best": number_cell(row.best),
            }
        )
    return Table(SCORES_CAPTION, cells)


def _few_seeds_table(rows: Sequence[Row]) -> Table:
    """Return the final scores of one or two seeds, without statistics."""
    cells = [
        {
            **_row_start(row),
            "score": number_cell(row.mean),
            "each seed": Cell(", ".join(number_cell(score).text for score in row.scores)),
            "seeds": _seeds_cell(row),
        }
        for row in rows
    ]
    return Table(SCORES_CAPTION, cells)


def _row_start(row: Row) -> dict[str, Cell]:
    return {"environment": Cell(row.env_id), "method": _method_cell(row.method)}


def _seeds_cell(row: Row) -> Cell:
    seeds = f"{len(row.scores)}" + (f" ({row.unfinished} unfinished)" if row.unfinished else "")
    return Cell(seeds, len(row.scores))


def aggregates_table(aggregates: Sequence[Aggregate]) -> Table:
    """Return the normalized scores over all environments."""
    rows = [
        {
            "method": _method_cell(aggregate.method),
            "IQM": number_cell(aggregate.iqm, ".3f"),
            "95 % interval": interval_cell(aggregate.interval, ".3f"),
            "mean": number_cell(aggregate.mean, ".3f"),
            "runs": _count_cell(aggregate.runs),
        }
        for aggregate in aggregates
    ]
    return Table("Normalized score of each method over all environments", rows)


def imitation_table(rows: Sequence[Row]) -> Table | None:
    """Return final scores as percentages of the expert return, with ablations; None if no run had an expert."""
    cells = []
    has_ablations = any(get_ablation(row.method) for row in rows)
    score = "IQM" if any(len(row.scores) >= MIN_SEEDS for row in rows) else "score"
    for row in rows:
        expert = mean_expert_return(row.method.runs_on(row.env_id))
        if not math.isfinite(expert):
            continue
        demos = get_setting(row.method.runs[0], "num_demos")
        line = {
            **_row_start(row),
            "% of expert": percentage_cell(row.iqm, expert),
            score: number_cell(row.iqm),
            "expert return": number_cell(expert),
            "demonstrations": Cell(str(demos or "all"), float(demos) if demos else math.inf),
        }
        if has_ablations:
            ablations = ablation_scores(row, rows)
            line |= {title: percentage_cell(ablations[kind], expert) for kind, title in ABLATIONS.items()}
        cells.append(line)
    return Table("Final scores and expert return", cells) if cells else None


def percentage(score: float, expert: float) -> float:
    """Return a score as a percentage of the expert return; NaN if that is not positive."""
    return 100.0 * score / expert if expert > 0 else math.nan


def percentage_cell(score: float, expert: float) -> Cell:
    """Return a cell with a percentage of the expert return."""
    return number_cell(percentage(score, expert), ".1f")


def ablation_scores(row: Row, rows: Sequence[Row]) -> dict[str, float]:
    """Return the score of each kind of ablation of a method on the same environment; NaN if there is none."""
    found = dict.fromkeys(ABLATIONS, math.nan)
    for other in rows:
        kind = get_ablation(other.method)
        if kind and other.env_id == row.env_id and not get_ablation(row.method):
            found[kind] = other.iqm if _other_settings(other) == _other_settings(row) else found[kind]
    return found


def _other_settings(row: Row) -> list[object]:
    """Return the algorithm and settings of a method except the ablation."""
    run = row.method.runs_on(row.env_id)[0]
    return [run.algo, *(get_setting(run, name) for name in method_settings(run.algo) if name != ABLATION_SETTING)]


def trials_table(rows: Sequence[Row]) -> Table:
    """Return the ranked trials of a sweep on an environment, and the values that they drew."""
    env_id, names = rows[0].env_id, find_swept_settings([row.method for row in rows])
    cells = []
    for rank, row in enumerate(rows, start=1):
        run = row.method.runs_on(env_id)[0]
        cells.append(
            {
                "trial": Cell(f"trial{run.trial}", method=row.method.label),
                "IQM": Cell(number_cell(row.iqm).text, row.iqm, best=rank == 1 and len(row.scores) >= MIN_SEEDS),
                "rank": _count_cell(rank),
                "seeds": _count_cell(len(row.scores)),
                **{name: _setting_cell(get_setting(run, name)) for name in names},
            }
        )
    return Table(f"Trials on {env_id}, best first", cells)


def _setting_cell(value: Any) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(format_value(value), float(value) if is_number else None)


def timed_runs(study: Study) -> Iterator[tuple[str, Method, list[Run]]]:
    """Yield (environment, method, runs) of the runs that have logged their duration."""
    for env_id, method in itertools.product(study.environments, study.methods):
        if runs := [run for run in method.runs_on(env_id) if math.isfinite(run.last(TIME))]:
            yield env_id, method, runs


def list_workers(runs: Sequence[Run]) -> list[int]:
    """Return the different numbers of workers of runs, sorted."""
    return sorted({int(w) for r in runs if isinstance(w := r.config.get("num_workers"), int)})


def time_table(study: Study) -> Table:
    """Return duration and speed of the runs of each method on each environment."""
    rows = []
    for env_id, method, runs in timed_runs(study):
        seconds, workers = np.array([run.last(TIME) for run in runs]), list_workers(runs)
        rows.append(
            {
                "environment": Cell(env_id),
                "method": _method_cell(method),
                "time per run": _duration_cell(seconds.mean()),
                "steps/s": number_cell(float(np.nanmean([run.speed for run in runs])), ",.0f"),
                "steps per run": number_cell(float(np.nanmean([run.steps for run in runs])), ",.0f"),
                "total time": _duration_cell(seconds.sum()),
                "runs": _count_cell(len(runs)),
                "workers": Cell(", ".join(map(str, workers)) or "–", workers[0] if workers else -math.inf),
            }
        )
    return Table("Wall-clock time and speed", rows)


def runs_table(study: Study) -> Table:
    """Return all runs with their state, score, commit and log."""
    rows = []
    for run in study.runs:
        column = study.score_column(run.env_id) if run.config else EVALUATION
        rows.append(
            {
                "run": Cell(run.name),
                "final score": number_cell(run.score(column)),
                "state": Cell(run.state, state=True),
                "steps": number_cell(run.steps, ",.0f"),
                "time": _duration_cell(run.last(TIME)),
                "commit": Cell(str(run.config.get("git_sha", "–"))),
                "log": Cell(relative(run.log.absolute()) if run.log.exists() else "–"),
            }
        )
    return Table("All runs", rows)


def unfinished_table(study: Study) -> Table:
    """Return the runs that are unfinished or whose logs are damaged, with the reason and the path of the log."""
    rows = [
        {
            "run": Cell(run.name),
            "state": Cell(run.state, state=True),
            "reason": Cell("; ".join(filter(None, (run.reason, *run.problems))) or "–"),
            "steps": number_cell(run.steps, ",.0f"),
            "log": Cell(relative(run.log.absolute()) if run.log.exists() else "–"),
        }
        for run in study.runs
        if run.state != "finished" or run.problems
    ]
    return Table("Unfinished runs, and runs with damaged logs", rows)
