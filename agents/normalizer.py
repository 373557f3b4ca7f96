"""Running moments over all workers, and the two normalizers that stand on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from milozero.helpers.comm import Comm

EPSILON = 1e-8


class RunningMoments:
    """Mean and variance of all samples seen by all workers, in float64.

    Batches are merged by their deltas (Chan et al. 1979), in rank order, so every worker holds the same bits.
    Before the first sample the moments are 0 and 1.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0.0
        self.mean = np.zeros(shape)
        self.squares = np.zeros(shape)  # sum of squared distances from the mean

    @property
    def std(self) -> np.ndarray:
        """Standard deviation, of the moments' shape."""
        if self.count == 0:
            return np.ones_like(self.mean)
        return np.sqrt(self.squares / self.count + EPSILON)

    def update(self, samples: np.ndarray, comm: Comm) -> None:
        """Merge every worker's `samples` (K, *shape); each worker may bring another K, also none."""
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
        self.squares = self.squares + squares + delta**2 * (self.count * count / total)
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's moments."""
        self.count = float(state["count"])
        self.mean = np.asarray(state["mean"], np.float64)
        self.squares = np.asarray(state["squares"], np.float64)


class ObservationNormalizer:
    """Observations to zero mean and unit variance, clipped; frozen until `update` is called.

    A normalizer that is switched off learns nothing and stays the identity.
    """

    def __init__(self, size: int, clip: float, enabled: bool) -> None:
        self.moments = RunningMoments((size,))
        self.clip = clip
        self.enabled = enabled
        self._freeze()

    def _freeze(self) -> None:
        self._mean = self.moments.mean.astype(np.float32)
        self._scale = (1.0 / self.moments.std).astype(np.float32)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return normalized float32 observations, of the same shape (..., O)."""
        if not self.enabled:
            return np.asarray(observations, np.float32)
        normalized = (observations - self._mean) * self._scale
        return np.clip(normalized, -self.clip, self.clip, out=normalized).astype(np.float32, copy=False)

    def update(self, observations: np.ndarray, comm: Comm) -> None:
        """Count each observation (K, O) once."""
        if self.enabled:
            self.moments.update(observations, comm)
            self._freeze()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return self.moments.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's moments."""
        self.moments.load_state_dict(state)
        self._freeze()


class RewardScaler:
    """Rewards divided by the standard deviation of the discounted return (Engstrom et al. 2020, sec. 2).

    The mean is not subtracted: that would change the task. The running return of an environment starts anew
    when its episode terminates or is truncated.
    """

    def __init__(self, num_envs: int, gamma: float, clip: float, enabled: bool) -> None:
        self.moments = RunningMoments(())
        self.returns = np.zeros(num_envs)  # (N,) discounted return so far of each environment's episode
        self.gamma = gamma
        self.clip = clip
        self.enabled = enabled

    def __call__(self, rewards: np.ndarray, done: np.ndarray, mask: np.ndarray, comm: Comm) -> np.ndarray:
        """Learn from one rollout, then return its rewards scaled; all arrays (T, N)."""
        if not self.enabled:
            return rewards
        discounted = np.empty(rewards.shape)
        for t in range(len(rewards)):
            self.returns = self.returns * self.gamma + rewards[t]
            discounted[t] = self.returns
            self.returns = np.where(done[t], 0.0, self.returns)
        self.moments.update(discounted[mask], comm)
        scaled = rewards / self.moments.std
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    @property
    def std(self) -> float:
        """What rewards are divided by."""
        return float(self.moments.std) if self.enabled else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs; the running returns belong to the environments, not to it."""
        return self.moments.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's moments."""
        self.moments.load_state_dict(state)
