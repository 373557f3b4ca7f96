"""Statistics of scores and learning curves, as pure functions.

The interquartile mean and its stratified bootstrap follow "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (Agarwal et al. 2021). The authors' library, rliable 1.2.0, which benchmarks/learning.py uses, is not used
here: it adds eight dependencies, pins pandas to version 2 and requires the same number of seeds per environment.
``scipy.stats.bootstrap`` does not accept an environment with one seed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

NUM_RESAMPLES = 2000  # of a bootstrap
PERCENTILES = (2.5, 97.5)  # bounds of a 95 % interval
NUM_POINTS = 200  # of a mean curve
Series = tuple[np.ndarray, np.ndarray]  # environment steps (k,), increasing, and values (k,)


def final_score(values: np.ndarray) -> float:
    """Return the mean of the last 10 % of a run's measurements (k,), but at least one; NaN if there are none."""
    return float(values[-max(len(values) // 10, 1) :].mean()) if len(values) else float("nan")


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Return the means (...,) of scores (..., n) without the lowest and the highest n // 4 scores."""
    count = scores.shape[-1]
    return np.asarray(np.sort(scores, axis=-1)[..., count // 4 : count - count // 4].mean(axis=-1))


def iqm_interval(strata: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the 95 % stratified bootstrap interval of the interquartile mean of all scores.

    Each stratum, the scores (n,) of one environment, is resampled separately. NaN if none has two scores.
    """
    if max(map(len, strata), default=0) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)  # fixed, so that the same runs give the same page
    resamples = [scores[rng.integers(len(scores), size=(NUM_RESAMPLES, len(scores)))] for scores in strata]
    low, high = np.percentile(interquartile_mean(np.concatenate(resamples, axis=1)), PERCENTILES)
    return float(low), float(high)


def mean_interval(values: np.ndarray) -> np.ndarray:
    """Return the 95 % bootstrap interval (2, points) of the mean over the seeds of curves (seeds, points)."""
    seeds, points = values.shape
    if seeds < 2:
        return np.full((2, points), np.nan)
    # The mean of a resample depends only on how often it contains each seed.
    counts = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), size=NUM_RESAMPLES)
    return np.asarray(np.percentile(counts @ values / seeds, PERCENTILES, axis=0))


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Return the centered moving average of values (k,) over `window` of them, an odd number; fewer at the ends."""
    half, sums = window // 2, np.concatenate([[0.0], np.cumsum(values)])
    indices = np.arange(len(values))
    low, high = np.maximum(indices - half, 0), np.minimum(indices + half + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))


def interpolate_curves(curves: Sequence[Series]) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate curves, each with at least one step, linearly on steps that all of them cover.

    Returns:
        Steps (points,) from the latest first step to the earliest last step, and values (curves, points). There are
        no points if the curves do not overlap.
    """
    low, high = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    if high < low:
        return np.empty(0), np.empty((len(curves), 0))
    grid = np.linspace(low, high, NUM_POINTS if high > low else 1)
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in curves])


def find_shared(curves: Sequence[Series]) -> Series:
    """Return the steps (k,) that all curves have, and their values there (curves, k)."""
    shared = functools.reduce(np.intersect1d, [steps for steps, _ in curves])
    return shared, np.stack([values[np.searchsorted(steps, shared)] for steps, values in curves])


def min_max_normalize(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return method → scores (n,) on one environment, scaled so that the lowest of all runs is 0 and the highest 1.

    If all scores are equal, each becomes 0.5.
    """
    pooled = np.concatenate(list(scores.values()))
    low, spread = pooled.min(), np.ptp(pooled)
    return {
        name: (values - low) / spread if spread > 0 else np.full(len(values), 0.5) for name, values in scores.items()
    }
