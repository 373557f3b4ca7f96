"""Returns and advantages: pure functions of a rollout."""

from __future__ import annotations

import numpy as np


def gae(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    terminated: np.ndarray,
    done: np.ndarray,
    gamma: float,
    lambda_: float,
) -> np.ndarray:
    """Return generalized advantage estimates (Schulman et al. 2016, eq. 16); all arrays (T, N).

    A terminated step does not bootstrap. A truncated one does, from the value of its final observation.
    Neither lets the trace run on into the next episode.

    Args:
        rewards: of each step.
        values: of the observation before each step.
        next_values: of the observation after each step, the final one where the episode ended.
        terminated: the episode ended by its own rules.
        done: the episode ended, terminated or truncated.
        gamma: discount factor.
        lambda_: trace decay; 0 is the one-step error, 1 the return minus the value.
    """
    deltas = rewards + gamma * np.where(terminated, 0.0, next_values) - values
    decay = gamma * lambda_ * ~done
    advantages = np.empty_like(deltas)
    trace = np.zeros(deltas.shape[1:], deltas.dtype)
    for t in reversed(range(len(deltas))):
        trace = deltas[t] + decay[t] * trace
        advantages[t] = trace
    return advantages


def explained_variance(values: np.ndarray, returns: np.ndarray) -> float:
    """Return how much of the returns' variance the values explain: 1 all, 0 none, below 0 worse than the mean."""
    variance = returns.var()
    return float(1.0 - (returns - values).var() / variance) if variance > 0 else float("nan")
