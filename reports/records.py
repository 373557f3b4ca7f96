"""The records of a report's tables, for CSV and JSON."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from milozero.agents import AGENTS
from milozero.experiment.resume import default_values
from milozero.reports import scores, tables
from milozero.reports.methods import get_setting
from milozero.reports.page import choose_styles
from milozero.reports.recipes import changed_settings
from milozero.reports.runs import AXES, EVALUATION, ITERATIONS, METRICS, STEPS, TIME, Run, mean_expert_return
from milozero.reports.scores import Study

# Column → value. Of an array, each row of a CSV has one value; a mapping becomes columns.
Record = Mapping[str, Any]


def make_runs(study: Study) -> Iterator[Record]:
    """Yield a record for each run."""
    labels = {run.name: method.label for method in study.methods for run in method.runs}
    for run in study.runs:
        column = study.score_column(run.env_id) if run.config else EVALUATION
        settings = default_values(run.algo) if run.algo in AGENTS else {}
        yield {
            "name": run.name,
            "env_id": run.env_id,
            "algo": run.algo,
            "method": labels.get(run.name, ""),
            "seed": get_setting(run, "seed"),
            "trial": run.trial,
            "state": run.state,
            "reason": run.reason,
            "problems": "; ".join(run.problems),
            "iterations": _count(run.count(ITERATIONS)),
            "steps": _count(run.steps),
            "score": column,
            "final": run.score(column),
            "best": run.best(column),
            "expert_return": run.expert_return,
            "seconds": run.last(TIME),
            "steps_per_second": run.speed,
            "commit": str(run.config.get("git_sha", "")),
            "host": str(run.counters.get("host", "")),
            "log": str(run.log) if run.log.exists() else "",
            "command": str(run.config.get("command", "")),
            "changed": " ".join(changed_settings(run)),
            "settings": {name: get_setting(run, name) for name in settings},
            "versions": {name: str(value) for name, value in run.config.items() if name.endswith("_version")},
        }


def make_methods(study: Study) -> Iterator[Record]:
    """Yield a record for each method."""
    styles = choose_styles(study, scores.score_rows(study))
    for method in study.methods:
        algo, settings = method.runs[0].algo, dict(method.settings)
        yield {"method": method.label, "algo": algo, "color": styles[method.label].color, "settings": settings}


def _count(value: float) -> int | None:
    return round(value) if math.isfinite(value) else None


def make_curves(study: Study) -> Iterator[Record]:
    """Yield a record for each line of the learning curves, over each axis."""
    for env_id, metric, axis in itertools.product(study.environments, METRICS, AXES):
        for curve in scores.build_curves(study, env_id, metric, axis):
            if curve.axis != axis:  # cloning alone is over iterations, whose own records follow
                continue
            low, high = curve.interval
            yield {
                "env_id": env_id,
                "metric": metric,
                "axis": axis,
                "method": curve.method.label,
                "seeds": len(curve.seeds),
                "x": curve.steps,
                "mean": curve.mean,
                "low": low,
                "high": high,
            }


def make_measurements(study: Study) -> Iterator[Record]:
    """Yield a record for each metric of each run."""
    for metric, method in itertools.product(METRICS, study.methods):
        for run in method.runs:
            steps, values = run.series(metric)
            if len(steps):
                yield {
                    "env_id": run.env_id,
                    "metric": metric,
                    "method": method.label,
                    "run": run.name,
                    "seed": get_setting(run, "seed"),
                    **{axis: _at_steps(run, axis, steps) for axis in AXES},
                    "value": values,
                }


def _at_steps(run: Run, axis: str, steps: np.ndarray) -> np.ndarray:
    """Return the positions on an axis of the rows with these steps; of duplicates, of the last row."""
    if axis not in run.columns:
        return np.full(len(steps), np.nan)
    rows = dict(zip(run.columns[STEPS], run.columns[axis], strict=True))
    return np.array([rows[step] for step in steps])


def make_scores(study: Study) -> Iterator[Record]:
    """Yield a record for each method on each environment."""
    rows = scores.score_rows(study)
    for row in rows:
        expert = mean_expert_return(row.method.runs_on(row.env_id))
        ablations = tables.ablation_scores(row, rows)
        yield {
            "env_id": row.env_id,
            "method": row.method.label,
            "score": study.score_column(row.env_id),
            "seeds": len(row.scores),
            "unfinished": row.unfinished,
            "iqm": row.iqm,
            "low": row.interval[0],
            "high": row.interval[1],
            "mean": row.mean,
            "median": row.median,
            "best": row.best,
            "expert_return": expert,
            "expert_percent": tables.percentage(row.iqm, expert),
            **{f"{kind}_percent": tables.percentage(score, expert) for kind, score in ablations.items()},
        }


def make_aggregates(study: Study) -> Iterator[Record]:
    """Yield a record for each method that has scores on all of several environments."""
    for aggregate in scores.aggregate_scores(study, scores.score_rows(study))[0]:
        yield {
            "method": aggregate.method.label,
            "runs": aggregate.runs,
            "iqm": aggregate.iqm,
            "low": aggregate.interval[0],
            "high": aggregate.interval[1],
            "mean": aggregate.mean,
        }


def make_trials(study: Study) -> Iterator[Record]:
    """Yield a record for each trial of a sweep on each environment, best first."""
    for env_id in study.environments:
        rows = scores.rank_trials(study, env_id)
        names = scores.find_swept_settings([row.method for row in rows])
        for rank, row in enumerate(rows, start=1):
            run = row.method.runs_on(env_id)[0]
            yield {
                "env_id": env_id,
                "trial": run.trial,
                "method": row.method.label,
                "rank": rank,
                "score": study.score_column(env_id),
                "iqm": row.iqm,
                "seeds": len(row.scores),
                "settings": {name: get_setting(run, name) for name in names},
            }


def make_time(study: Study) -> Iterator[Record]:
    """Yield a record for each method on each environment."""
    for env_id, method, runs in tables.timed_runs(study):
        seconds = np.array([run.last(TIME) for run in runs])
        yield {
            "env_id": env_id,
            "method": method.label,
            "runs": len(runs),
            "workers": " ".join(map(str, tables.list_workers(runs))),
            "steps_per_run": np.nanmean([run.steps for run in runs]),
            "seconds_per_run": seconds.mean(),
            "total_seconds": seconds.sum(),
            "steps_per_second": np.nanmean([run.speed for run in runs]),
        }
