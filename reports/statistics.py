"""The numbers of a report: pure functions of scores and curves.

The interquartile mean and its stratified bootstrap are those of "Deep Reinforcement Learning at the Edge of the
Statistical Precipice" (Agarwal et al. 2021). The authors' library rliable 1.2.0, which benchmarks/learning.py uses,
is not used here: it brings eight other packages along, of which pandas has to stay at 2, and it wants as many seeds
of each environment. ``scipy.stats.bootstrap``, in turn, refuses an environment that has one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES = 2000  # of a bootstrap
LEVELS = (2.5, 97.5)  # percentiles that bound 95 %
POINTS = 200  # of a curve
Series = tuple[np.ndarray, np.ndarray]  # environment steps (k,), increasing, and values (k,)


def final(values: np.ndarray) -> float:
    """Return the mean of the last tenth of a run's measurements (k,), at least of the last one; NaN without any."""
    return float(values[-max(len(values) // 10, 1) :].mean()) if len(values) else float("nan")


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Return the means (...,) of scores (..., n) without the lowest and the highest quarter, each n // 4 of them."""
    count = scores.shape[-1]
    return np.asarray(np.sort(scores, axis=-1)[..., count // 4 : count - count // 4].mean(axis=-1))


def iqm_interval(strata: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the 95 % interval of the interquartile mean over all strata together.

    Args:
        strata: the scores (n,) of each environment, which are resampled among themselves.

    Returns:
        Its bounds; NaN where no stratum has more than one score.
    """
    if max(map(len, strata), default=0) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)  # the same runs, the same page
    drawn = [scores[rng.integers(len(scores), size=(RESAMPLES, len(scores)))] for scores in strata]
    low, high = np.percentile(interquartile_mean(np.concatenate(drawn, axis=1)), LEVELS)
    return float(low), float(high)


def mean_interval(values: np.ndarray) -> np.ndarray:
    """Return the 95 % bootstrap interval (2, points) of the mean over the seeds of curves (seeds, points)."""
    seeds, points = values.shape
    if seeds < 2:
        return np.full((2, points), np.nan)
    # How often each seed is drawn says all about a resample's mean.
    counts = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    return np.asarray(np.percentile(counts @ values / seeds, LEVELS, axis=0))


def on_common_grid(curves: Sequence[Series]) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate curves on steps that all of them cover.

    Returns:
        Steps (points,) from the latest first step to the earliest last one, and values (curves, points). Without
        any common steps, no points.
    """
    if not curves or not all(len(steps) for steps, _ in curves):
        return np.empty(0), np.empty((len(curves), 0))
    low, high = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    if high < low:
        return np.empty(0), np.empty((len(curves), 0))
    grid = np.linspace(low, high, POINTS if high > low else 1)
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in curves])


def min_max_normalized(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return method → scores of one environment, the lowest of all its runs at 0 and the highest at 1.

    Where all are the same nothing tells them apart: each is 0.5.
    """
    everything = np.concatenate(list(scores.values()))
    low, spread = everything.min(), np.ptp(everything)
    return {name: (mine - low) / spread if spread > 0 else np.full(len(mine), 0.5) for name, mine in scores.items()}
