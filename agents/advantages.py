"""Advantages and how well values predict returns: pure functions of a rollout."""

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
    """Return generalized advantage estimates (Schulman et al. 2016, eq. 16); all arrays are (T, N).

    A_t = δ_t + γ λ (1 − done_t) A_{t+1}, with the TD error δ_t = r_t + γ (1 − terminated_t) V(s_{t+1}) − V(s_t).

    A terminated step does not bootstrap. A truncated step does, from the value of its final observation.
    Neither lets the trace run into the next episode.

    Args:
        rewards: r_t of each step.
        values: V(s_t), of the observation before each step.
        next_values: V(s_{t+1}), of the observation after each step, which is final if the episode ended.
        terminated: the episode reached a terminal state.
        done: the episode terminated or was truncated.
        gamma: discount factor γ.
        lambda_: trace decay λ; 0 gives the TD error, 1 the Monte Carlo return minus the value.
    """
    deltas = rewards + gamma * np.where(terminated, 0.0, next_values) - values  # TD error δ_t
    decay = gamma * lambda_ * ~done
    advantages = np.empty_like(deltas)
    trace = np.zeros(deltas.shape[1:], deltas.dtype)
    for t in reversed(range(len(deltas))):
        trace = deltas[t] + decay[t] * trace  # A_t = δ_t + γ λ (1 − done_t) A_{t+1}
        advantages[t] = trace
    return advantages


def explained_variance(values: np.ndarray, returns: np.ndarray) -> float:
    """Return 1 − Var(returns − values) / Var(returns), NaN if all returns are equal.

    1 is a perfect prediction; 0 or less is no better than predicting the mean return.
    """
    variance = returns.var()
    return float(1.0 - (returns - values).var() / variance) if variance > 0 else float("nan")
