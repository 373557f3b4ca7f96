"""Tables of a report, for the page and as CSV."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.agents import AGENTS
from milozero.experiment.resume import default_values
from milozero.helpers.logging import format_duration
from milozero.reports.methods import Method, find_varying_settings, format_value, get_setting, method_settings
from milozero.reports.runs import EVALUATION, Run, mean_expert_return
from milozero.reports.scores import MIN_SEEDS, Aggregate, Row, Study, find_swept_settings, score_row
from milozero.studies.job_status import relative

CSV_COLUMNS = (
    *("name", "env_id", "algo", "method", "seed", "trial", "state", "reason", "iterations", "steps"),
    *("score", "final", "best", "seconds", "steps_per_second", "commit", "log"),
)
SCORES_CAPTION = "Final score of each method on each environment"
OF_ONE_RUN = ("seed", "uuid", "resume", "data_dir", "config")  # settings that say nothing about a method
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
        }
        for row in rows
    ]
    return Table(SCORES_CAPTION, cells)


def _row_start(row: Row) -> dict[str, Cell]:
    seeds = f"{len(row.scores)}" + (f" ({row.unfinished} unfinished)" if row.unfinished else "")
    start = {"environment": Cell(row.env_id), "method": _method_cell(row.method)}
    return start | {"seeds": Cell(seeds, len(row.scores))}


def aggregates_table(aggregates: Sequence[Aggregate]) -> Table:
    """Return the normalized scores over all environments."""
    rows = [
        {
            "method": _method_cell(aggregate.method),
            "runs": _count_cell(aggregate.runs),
            "IQM": number_cell(aggregate.iqm, ".3f"),
            "95 % interval": interval_cell(aggregate.interval, ".3f"),
            "mean": number_cell(aggregate.mean, ".3f"),
        }
        for aggregate in aggregates
    ]
    return Table("Normalized score of each method over all environments", rows)


def imitation_table(rows: Sequence[Row]) -> Table | None:
    """Return final scores as percentages of the expert return, with ablations; None if no run had an expert."""
    cells = []
    has_ablations = any(get_ablation(row.method) for row in rows)
    for row in rows:
        expert = mean_expert_return(row.method.runs_on(row.env_id))
        if not math.isfinite(expert):
            continue
        demos = get_setting(row.method.runs[0], "num_demos")
        line = {
            "environment": Cell(row.env_id),
            "method": _method_cell(row.method),
            "demonstrations": Cell(str(demos or "all"), float(demos) if demos else math.inf),
            "expert return": number_cell(expert),
            "IQM": number_cell(row.iqm),
            "% of expert": percentage_cell(row.iqm, expert),
        }
        if has_ablations:
            line |= {title: _ablation_cell(row, kind, rows, expert) for kind, title in ABLATIONS.items()}
        cells.append(line)
    return Table("Final scores and expert return", cells) if cells else None


def percentage_cell(score: float, expert: float) -> Cell:
    """Return a cell with a percentage of the expert return; a dash if that is not positive."""
    return number_cell(100.0 * score / expert if expert > 0 else math.nan, ".1f")


def _ablation_cell(row: Row, kind: str, rows: Sequence[Row], expert: float) -> Cell:
    """Return the percentage that the ablation of a method achieves on the same environment."""
    if get_ablation(row.method):
        return number_cell(math.nan)
    ablations = [other for other in rows if other.env_id == row.env_id and get_ablation(other.method) == kind]
    scores = [other.iqm for other in ablations if _other_settings(other) == _other_settings(row)]
    return percentage_cell(scores[0] if scores else math.nan, expert)


def _other_settings(row: Row) -> list[object]:
    """Return the algorithm and settings of a method except the ablation."""
    run = row.method.runs_on(row.env_id)[0]
    return [run.algo, *(get_setting(run, name) for name in method_settings(run.algo) if name != ABLATION_SETTING)]


def trials_table(study: Study, trials: Sequence[Method], env_id: str) -> Table:
    """Return the trials of a sweep and their settings, ranked by their score on an environment."""
    names = find_swept_settings(trials)
    rows = [row for trial in trials if (row := score_row(study, env_id, trial))]
    rows.sort(key=lambda row: -row.iqm)
    cells = []
    for rank, row in enumerate(rows, start=1):
        run = row.method.runs_on(env_id)[0]
        cells.append(
            {
                "rank": _count_cell(rank),
                "trial": Cell(f"trial{run.trial}", method=row.method.label),
                "IQM": Cell(number_cell(row.iqm).text, row.iqm, best=rank == 1 and len(row.scores) >= MIN_SEEDS),
                "seeds": _count_cell(len(row.scores)),
                **{name: _setting_cell(get_setting(run, name)) for name in names},
            }
        )
    return Table(f"Trials on {env_id}, best first", cells)


def _setting_cell(value: Any) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(format_value(value), float(value) if is_number else None)


def time_table(study: Study) -> Table:
    """Return duration and speed of the runs of each method on each environment."""
    rows = []
    for env_id, method in itertools.product(study.environments, study.methods):
        runs = [run for run in method.runs_on(env_id) if math.isfinite(run.last("seconds"))]
        if not runs:
            continue
        seconds = np.array([run.last("seconds") for run in runs])
        workers = sorted({int(w) for r in runs if isinstance(w := r.config.get("num_workers"), int)})
        rows.append(
            {
                "environment": Cell(env_id),
                "method": _method_cell(method),
                "runs": _count_cell(len(runs)),
                "workers": Cell(", ".join(map(str, workers)) or "–", workers[0] if workers else -math.inf),
                "steps per run": number_cell(float(np.nanmean([run.steps for run in runs])), ",.0f"),
                "time per run": _duration_cell(seconds.mean()),
                "total time": _duration_cell(seconds.sum()),
                "steps/s": number_cell(float(np.nanmean([run.speed for run in runs])), ",.0f"),
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
                "state": Cell(run.state, state=True),
                "steps": number_cell(run.steps, ",.0f"),
                "final score": number_cell(run.score(column)),
                "time": _duration_cell(run.last("seconds")),
                "commit": Cell(str(run.config.get("git_sha", "–"))),
                "log": Cell(relative(run.log.absolute()) if run.log.exists() else "–"),
            }
        )
    return Table("All runs", rows)


@dataclass(frozen=True)
class Recipe:
    """What a method was trained with on an environment."""

    title: str
    command: str  # of its first run, as the settings
    changed: Mapping[str, str]  # settings that differ from the defaults
    settings: Mapping[str, str]  # all settings
    versions: Mapping[str, str]  # of packages, and the device


def list_recipes(study: Study) -> list[Recipe]:
    """Return what each method was trained with on each environment."""
    recipes = []
    for method, env_id in itertools.product(study.methods, study.environments):
        for run in method.runs_on(env_id)[:1]:
            title = f"{method.label} on {env_id}" if len(study.environments) > 1 else method.label
            recipes.append(_describe(title, run))
    return recipes


def _describe(title: str, run: Run) -> Recipe:
    defaults = default_values(run.algo) if run.algo in AGENTS else {}
    usual = {name: format_value(value) for name, value in defaults.items()}
    settings = {name: format_value(run.config[name]) for name in usual if name in run.config}
    settings = {name: value for name, value in settings.items() if name not in OF_ONE_RUN}
    changed = {name: value for name, value in settings.items() if value != usual[name]}
    versions = {
        name.removesuffix("_version"): format_value(value)
        for name, value in run.config.items()
        if name.endswith("_version") or name in ("device", "compiled")
    }
    return Recipe(title, str(run.config.get("command", "")), changed, settings, versions)


def unfinished_table(study: Study) -> Table:
    """Return the runs that are unfinished or whose logs are damaged, with the reason and the path of the log."""
    rows = [
        {
            "run": Cell(run.name),
            "state": Cell(run.state, state=True),
            "steps": number_cell(run.steps, ",.0f"),
            "reason": Cell("; ".join(filter(None, (run.reason, *run.problems))) or "–"),
            "log": Cell(relative(run.log.absolute()) if run.log.exists() else "–"),
        }
        for run in study.runs
        if run.state != "finished" or run.problems
    ]
    return Table("Unfinished runs, and runs with damaged logs", rows)


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
        *(run.name, run.env_id, run.algo, method, str(run.config.get("seed", "")), run.trial, run.state, run.reason),
        *(f"{run.count(name):.0f}" if math.isfinite(run.count(name)) else "" for name in ("iteration", "timesteps")),
        column,
        *(f"{value:.6g}" if math.isfinite(value) else "" for value in numbers),
        str(run.config.get("git_sha", "")),
        str(run.log) if run.log.exists() else "",
    ]
