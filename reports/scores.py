"""Scores of methods on environments: what the tables and pictures of a report show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.reports.methods import Method, environments_of, group_methods
from milozero.reports.runs import EVALUATION, TRAINING, Run
from milozero.reports.statistics import (
    Series,
    interquartile_mean,
    iqm_interval,
    mean_interval,
    min_max_normalized,
    on_common_grid,
)


@dataclass(frozen=True)
class Study:
    """The runs of a report, sorted out."""

    runs: Sequence[Run]  # all of them
    known: Sequence[Run]  # those whose settings could be read
    methods: Sequence[Method]
    environments: Sequence[str]

    def column(self, env_id: str) -> str:
        """Return what scores are measured by on an environment: evaluations, where there are any at all."""
        evaluated = any(run.has_evaluations for run in self.known if run.env_id == env_id)
        return EVALUATION if evaluated else TRAINING


def build_study(runs: Sequence[Run]) -> Study:
    """Sort runs out."""
    known = [run for run in runs if run.config]
    return Study(runs, known, group_methods(known), environments_of(known))


@dataclass(frozen=True)
class Row:
    """The scores of one method on one environment."""

    env_id: str
    method: Method
    scores: np.ndarray  # (seeds,) that have one
    unfinished: int  # how many of these runs are not finished
    iqm: float
    interval: tuple[float, float]
    mean: float
    median: float
    best: float  # single measurement of any of its runs


def scored(study: Study, env_id: str, method: Method) -> list[tuple[Run, float]]:
    """Return the runs of a method on an environment that have a final score, and that."""
    column = study.column(env_id)
    scores = [(run, run.score(column)) for run in method.on(env_id)]
    return [(run, score) for run, score in scores if np.isfinite(score)]


def score_row(study: Study, env_id: str, method: Method) -> Row | None:
    """Return the scores of a method on an environment; None where there are none."""
    pairs = scored(study, env_id, method)
    if not pairs:
        return None
    scores = np.array([score for _, score in pairs])
    return Row(
        env_id,
        method,
        scores,
        unfinished=sum(run.state != "finished" for run, _ in pairs),
        iqm=float(interquartile_mean(scores)),
        interval=iqm_interval([scores]),
        mean=float(scores.mean()),
        median=float(np.median(scores)),
        best=max(run.best(study.column(env_id)) for run, _ in pairs),
    )


def score_rows(study: Study) -> list[Row]:
    """Return a row for each environment and method that has scores."""
    rows = [score_row(study, env_id, method) for env_id in study.environments for method in study.methods]
    return [row for row in rows if row is not None]


@dataclass(frozen=True)
class Aggregate:
    """The normalized scores of one method over all environments."""

    method: Method
    runs: int
    iqm: float
    interval: tuple[float, float]
    mean: float


def aggregate_scores(study: Study, rows: Sequence[Row]) -> tuple[list[Aggregate], list[Method]]:
    """Return the aggregates, best first, of methods with scores on all environments; and the methods without.

    None at all where there is only one environment, or only one method.
    """
    normalized: dict[str, dict[str, np.ndarray]] = {}
    for env_id in dict.fromkeys(row.env_id for row in rows):
        scores = {row.method.label: row.scores for row in rows if row.env_id == env_id}
        for label, values in min_max_normalized(scores).items():
            normalized.setdefault(label, {})[env_id] = values
    count = len({row.env_id for row in rows})
    if count < 2 or len(normalized) < 2:
        return [], []
    found = []
    for method in study.methods:
        strata = list(normalized.get(method.label, {}).values())
        if len(strata) == count:
            pooled = np.concatenate(strata)
            iqm = float(interquartile_mean(pooled))
            found.append(Aggregate(method, len(pooled), iqm, iqm_interval(strata), float(pooled.mean())))
    complete = {each.method.label for each in found}
    return sorted(found, key=lambda a: -a.iqm), [m for m in study.methods if m.label not in complete]


@dataclass(frozen=True)
class Curve:
    """The learning curve of one method on one environment."""

    method: Method
    seeds: Sequence[tuple[Run, Series]]
    steps: np.ndarray  # (points,) that all seeds cover; empty where they have none in common
    mean: np.ndarray  # (points,) over the seeds
    interval: np.ndarray  # (2, points); NaN for one seed

    @property
    def shortest(self) -> Run | None:
        """The run that ends the mean before the others end; None where they end together, but for a twentieth."""
        ends = [(float(steps[-1]), run) for run, (steps, _) in self.seeds]
        first, last = min(ends, key=lambda end: end[0]), max(ends, key=lambda end: end[0])
        return first[1] if first[0] < 0.95 * last[0] else None


def build_curves(study: Study, env_id: str, column: str) -> list[Curve]:
    """Return a curve for each method that has more than one measurement of a metric on an environment."""
    curves = []
    for method in study.methods:
        seeds = [(run, run.series(column)) for run in method.on(env_id)]
        seeds = [(run, series) for run, series in seeds if len(series[0])]
        if any(len(steps) > 1 for _, (steps, _) in seeds):
            steps, values = on_common_grid([series for _, series in seeds])
            curves.append(Curve(method, seeds, steps, values.mean(axis=0), mean_interval(values)))
    return curves


def rank_trials(study: Study) -> list[Method]:
    """Return the methods that a sweep drew: those of runs that are trials, where settings differ."""
    return [m for m in study.methods if m.settings and all(run.trial for run in m.runs)]


def drawn_settings(trials: Sequence[Method]) -> list[str]:
    """Return the settings that take more than one value among trials."""
    names = dict.fromkeys(name for trial in trials for name in trial.settings)
    return [name for name in names if len({_of(trial, name) for trial in trials}) > 1]


def _of(trial: Method, name: str) -> Any:
    return trial.settings.get(name)
