"""Scores and learning curves of methods on environments, for the tables and plots of a report."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milozero.reports import statistics
from milozero.reports.methods import Method, group_methods, list_environments
from milozero.reports.runs import EVALUATION, ITERATIONS, STEPS, TIME, TRAINING, Run
from milozero.reports.statistics import Series

SMOOTHED_SHARE = 0.04  # of the measurements of a training return, over which a curve is averaged
MIN_SEEDS = 3  # of an interval: that of two seeds would be their range, whatever they are


@dataclass(frozen=True)
class Study:
    """The runs of a report, grouped into methods."""

    runs: Sequence[Run]
    known: Sequence[Run]  # the runs with readable settings
    methods: Sequence[Method]
    environments: Sequence[str]

    def score_column(self, env_id: str) -> str:
        """Return the metric that scores an environment: evaluation returns if any run has them, else training."""
        evaluated = any(run.has_evaluations for run in self.known if run.env_id == env_id)
        return EVALUATION if evaluated else TRAINING


def build_study(runs: Sequence[Run]) -> Study:
    """Group runs into methods."""
    known = [run for run in runs if run.config]
    return Study(runs, known, group_methods(known), list_environments(known))


@dataclass(frozen=True)
class Row:
    """The scores of one method on one environment."""

    env_id: str
    method: Method
    scores: np.ndarray  # (seeds,), of the runs that have a score
    unfinished: int  # how many of these runs are not finished
    iqm: float
    interval: tuple[float, float]
    mean: float
    median: float
    best: float  # highest single measurement of all runs


def score_row(study: Study, env_id: str, method: Method) -> Row | None:
    """Return the scores of a method on an environment; None if there are none."""
    column = study.score_column(env_id)
    pairs = [(run, run.score(column)) for run in method.runs_on(env_id)]
    pairs = [(run, score) for run, score in pairs if np.isfinite(score)]
    if not pairs:
        return None
    scores = np.array([score for _, score in pairs])
    return Row(
        env_id,
        method,
        scores,
        unfinished=sum(run.state != "finished" for run, _ in pairs),
        iqm=float(statistics.interquartile_mean(scores)),
        interval=_interval([scores]),
        mean=float(scores.mean()),
        median=float(np.median(scores)),
        best=max(run.best(column) for run, _ in pairs),
    )


def _interval(strata: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the interval of the IQM of scores; NaN if an environment has fewer than `MIN_SEEDS`."""
    if min(map(len, strata)) < MIN_SEEDS:
        return float("nan"), float("nan")
    return statistics.iqm_interval(strata)


def score_rows(study: Study) -> list[Row]:
    """Return a row for each environment and method that has scores."""
    pairs = itertools.product(study.environments, study.methods)
    return [row for env_id, method in pairs if (row := score_row(study, env_id, method))]


def normalize_scores(rows: Sequence[Row]) -> dict[str, dict[str, np.ndarray]]:
    """Return method → environment → min-max normalized scores (seeds,)."""
    normalized: dict[str, dict[str, np.ndarray]] = {}
    for env_id in dict.fromkeys(row.env_id for row in rows):
        scores = {row.method.label: row.scores for row in rows if row.env_id == env_id}
        for label, values in statistics.min_max_normalize(scores).items():
            normalized.setdefault(label, {})[env_id] = values
    return normalized


@dataclass(frozen=True)
class Aggregate:
    """The normalized scores of one method over all environments."""

    method: Method
    runs: int
    iqm: float
    interval: tuple[float, float]
    mean: float


def aggregate_scores(study: Study, rows: Sequence[Row]) -> tuple[list[Aggregate], list[Method]]:
    """Return the aggregates of methods with scores on all environments, best first, and the other methods.

    Both are empty if there is only one environment or only one method.
    """
    normalized = normalize_scores(rows)
    count = len({row.env_id for row in rows})
    if count < 2 or len(normalized) < 2:
        return [], []
    aggregates, incomplete = [], []
    for method in study.methods:
        strata = list(normalized.get(method.label, {}).values())
        if len(strata) < count:
            incomplete.append(method)
            continue
        pooled = np.concatenate(strata)
        iqm = float(statistics.interquartile_mean(pooled))
        aggregates.append(Aggregate(method, len(pooled), iqm, _interval(strata), float(pooled.mean())))
    return sorted(aggregates, key=lambda aggregate: -aggregate.iqm), incomplete


@dataclass(frozen=True)
class Curve:
    """The learning curve of one method on one environment, over one of `AXES`."""

    method: Method
    axis: str
    seeds: Sequence[tuple[Run, Series]]
    steps: np.ndarray  # (points,) positions on the axis that all seeds cover; empty if they do not overlap
    mean: np.ndarray  # (points,) over the seeds
    interval: np.ndarray  # (2, points); NaN for fewer than `MIN_SEEDS` seeds
    measured: Series  # where all seeds were measured, and the means of these measurements
    smoothed: bool = False  # whether mean and interval are those of smoothed seeds

    @property
    def is_level(self) -> bool:
        """Whether it has no positions on the axis, but only final scores."""
        return len(self.steps) == 1 and bool(np.isnan(self.steps[0]))

    @property
    def shortest(self) -> Run | None:
        """The run that cuts the mean short; None if all runs end within 5 % of the longest."""
        ends = [(float(steps[-1]), run) for run, (steps, _) in self.seeds]
        first, last = min(ends, key=lambda end: end[0]), max(ends, key=lambda end: end[0])
        return first[1] if first[0] < 0.95 * last[0] else None


def build_curves(study: Study, env_id: str, column: str, axis: str = STEPS) -> list[Curve]:
    """Return a curve for each method with measurements of a metric on an environment.

    Training returns, which are noisy and measured often, are smoothed. Over environment steps, methods that learn
    offline are level, beside others; if there are no others, all curves are over iterations.
    """
    methods = [
        method for method in study.methods if any(len(run.series(column)[0]) for run in method.runs_on(env_id))
    ]
    offline = [method for method in methods if method.runs[0].learns_offline]
    if axis == STEPS and len(offline) == len(methods):
        axis = ITERATIONS
    curves = []
    for method in methods:
        if axis == STEPS and method in offline:
            curves.append(_build_level(method, env_id, column))
        else:
            runs = [run for run in method.runs_on(env_id) if len(run.series(column, axis)[0])]
            curves += [_build_curve(method, column, axis, runs)] if runs else []
    return curves


def _build_curve(method: Method, column: str, axis: str, runs: Sequence[Run]) -> Curve:
    """Return the curve of a method. Over time, a point is the mean time and value of the seeds at an iteration."""
    seeds = [run.series(column, ITERATIONS if axis == TIME else axis) for run in runs]
    window = 1
    if column == TRAINING:
        window += 2 * int(SMOOTHED_SHARE * min(len(steps) for steps, _ in seeds) / 2)
    steps, values = statistics.interpolate_curves([(at, statistics.smooth(values, window)) for at, values in seeds])
    shared, shared_values = statistics.find_shared(seeds)
    if axis == TIME:
        times = [run.series(TIME, ITERATIONS) for run in runs]
        steps, shared = (np.mean([np.interp(at, *series) for series in times], axis=0) for at in (steps, shared))
    return Curve(
        method,
        axis,
        [(run, run.series(column, axis)) for run in runs],
        steps,
        values.mean(axis=0),
        _mean_interval(values),
        (shared, shared_values.mean(axis=0)),
        window > 1,
    )


def _build_level(method: Method, env_id: str, column: str) -> Curve:
    """Return the final scores of a method that takes no environment steps."""
    scores = [(run, run.score(column)) for run in method.runs_on(env_id)]
    seeds = [(run, (np.array([np.nan]), np.array([score]))) for run, score in scores if np.isfinite(score)]
    values = np.stack([values for _, (_, values) in seeds])
    nowhere = np.array([np.nan])
    return Curve(
        method, STEPS, seeds, nowhere, values.mean(axis=0), _mean_interval(values), (nowhere[:0], nowhere[:0])
    )


def _mean_interval(values: np.ndarray) -> np.ndarray:
    """Return the interval (2, points) of the mean of curves (seeds, points); NaN for fewer than `MIN_SEEDS`."""
    few = len(values) < MIN_SEEDS
    return np.full((2, values.shape[1]), np.nan) if few else statistics.mean_interval(values)


def find_trials(study: Study) -> list[Method]:
    """Return the methods that are trials of a sweep and differ in settings."""
    return [m for m in study.methods if m.settings and all(run.trial for run in m.runs)]


def rank_trials(study: Study, env_id: str) -> list[Row]:
    """Return the scores of the trials of a sweep on an environment, best first; none if there is a single one."""
    rows = [row for trial in find_trials(study) if (row := score_row(study, env_id, trial))]
    return sorted(rows, key=lambda row: -row.iqm) if len(rows) > 1 else []


def find_swept_settings(trials: Sequence[Method]) -> list[str]:
    """Return the settings that have more than one value among trials."""
    names = dict.fromkeys(name for trial in trials for name in trial.settings)
    return [name for name in names if len({trial.settings.get(name) for trial in trials}) > 1]
