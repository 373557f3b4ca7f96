"""Running moments over all workers, and the normalizers of observations and rewards that use them."""

from __future__ import annotations

from typing import Any

import numpy as np

from milozero.helpers.comm import Comm

VARIANCE_EPSILON = 1e-8


class RunningMoments:
    """Mean and variance of all samples of all workers, in float64.

    Batches are merged with the parallel algorithm of Chan et al. (1979), in rank order, so that all workers hold the
    same bits. Before the first sample, the mean is 0 and the standard deviation 1.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0.0
        self.mean = np.zeros(shape)
        self.squares = np.zeros(shape)  # M2: sum of squared differences from the mean

    @property
    def std(self) -> np.ndarray:
        """Standard deviation, of the same shape as the mean."""
        if self.count == 0:
            return np.ones_like(self.mean)
        return np.sqrt(self.squares / self.count + VARIANCE_EPSILON)

    def update(self, samples: np.ndarray, comm: Comm) -> None:
        """Merge the `samples` (K, *shape) of all workers (collective). K may differ between workers and may be 0."""
        samples = np.asarray(samples, np.float64)
        mean = samples.mean(axis=0) if len(samples) else np.zeros_like(self.mean)
        squares = ((samples - mean) ** 2).sum(axis=0)
        for count, other_mean, other_squares in comm.allgather((float(len(samples)), mean, squares)):
            self._merge(count, other_mean, other_squares)

    def _merge(self, count: float, mean: np.ndarray, squares: np.ndarray) -> None:
        if count == 0:
            return
        total = self.count + count
        delta = mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.squares = self.squares + squares + delta**2 * (self.count * count / total)  # M2 of both
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """Return the moments as plain values."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.count = float(state["count"])
        self.mean = np.asarray(state["mean"], np.float64)
        self.squares = np.asarray(state["squares"], np.float64)


class ObservationNormalizer:
    """Normalizes observations to mean 0 and standard deviation 1, and clips them to [−clip, clip].

    The statistics only change in `update`, and not at all if `frozen`. This is the identity unless `enabled`.
    """

    def __init__(self, size: int, clip: float, enabled: bool, *, frozen: bool = False) -> None:
        self.moments = RunningMoments((size,))
        self.clip = clip
        self.enabled = enabled
        self.frozen = frozen
        self._freeze()

    def _freeze(self) -> None:
        self._mean = self.moments.mean.astype(np.float32)
        self._scale = (1.0 / self.moments.std).astype(np.float32)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return the normalized observations (..., O) as float32."""
        observations = np.asarray(observations, np.float32)  # before any arithmetic, as `Rollout` holds them
        if not self.enabled:
            return observations
        normalized = (observations - self._mean) * self._scale
        return np.clip(normalized, -self.clip, self.clip, out=normalized)

    def update(self, observations: np.ndarray, comm: Comm) -> None:
        """Add the observations (K, O) of all workers to the statistics (collective)."""
        if self.enabled and not self.frozen:
            self.moments.update(observations, comm)
            self._freeze()

    def state_dict(self) -> dict[str, Any]:
        """Return the moments as plain values."""
        return self.moments.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.moments.load_state_dict(state)
        self._freeze()


class RewardScaler:
    """Divides rewards by the standard deviation of the discounted return (Engstrom et al. 2020, sec. 2).

    The mean is not subtracted, because that would change the task. The running return of an environment restarts
    from 0 at the end of an episode.
    """

    def __init__(self, num_envs: int, gamma: float, clip: float, enabled: bool) -> None:
        self.moments = RunningMoments(())
        self.returns = np.zeros(num_envs)  # (N,) running discounted return of each environment
        self.gamma = gamma
        self.clip = clip
        self.enabled = enabled

    def __call__(self, rewards: np.ndarray, done: np.ndarray, mask: np.ndarray, comm: Comm) -> np.ndarray:
        """Update the statistics with one rollout and return its scaled rewards (collective); arrays are (T, N)."""
        if not self.enabled:
            return rewards
        discounted = np.empty(rewards.shape)
        for t in range(len(rewards)):
            self.returns = self.returns * self.gamma + rewards[t]  # R_t = γ R_{t−1} + r_t
            discounted[t] = self.returns
            self.returns = np.where(done[t], 0.0, self.returns)
        self.moments.update(discounted[mask], comm)
        scaled = rewards / self.moments.std
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    @property
    def std(self) -> float:
        """The divisor of the rewards; 1 if scaling is disabled."""
        return float(self.moments.std) if self.enabled else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return the moments, but not the running returns, which differ between workers."""
        return self.moments.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.moments.load_state_dict(state)
