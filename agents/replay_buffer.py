"""The replay buffer of off-policy algorithms: a worker's latest environment steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Steps(NamedTuple):
    """Consecutive steps of N environments, time-major, as in a `Rollout`."""

    obs: np.ndarray  # (T+1, N, O) float32, before each step; the last row is after the last step
    actions: np.ndarray  # (T, N, A) float32
    rewards: np.ndarray  # (T, N) float32
    terminated: np.ndarray  # (T, N) bool
    done: np.ndarray  # (T, N) bool
    mask: np.ndarray  # (T, N) bool, False for padding steps


class Transitions(NamedTuple):
    """Sampled transitions of one or several steps; rows are independent."""

    obs: np.ndarray  # (B, O) float32, s_t
    actions: np.ndarray  # (B, A) float32, a_t
    rewards: np.ndarray  # (B,) float32, Σ_{k<m} γ^k r_{t+k} over the m steps of the transition
    next_obs: np.ndarray  # (B, O) float32, s_{t+m}
    discounts: np.ndarray  # (B,) float32, γ^m; 0 if the last step terminated the episode


class ReplayBuffer:
    """The latest steps of N environments, with each observation stored once.

    Like a `Rollout`, it is time-major and contains padding steps, which are never sampled. Row t holds step t of
    every environment, and the observation after it is in row t + 1. Observations are stored as the environment
    returned them, so that a normalizer that changes later applies to all of them.

    Args:
        capacity: steps of all environments together.
        num_envs: N.
        observation_size: O.
        action_size: A.
    """

    def __init__(self, capacity: int, num_envs: int, observation_size: int, action_size: int) -> None:
        self.rows = capacity // num_envs
        self.num_envs = num_envs
        if self.rows < 1:
            raise ValueError(f"a capacity of {capacity} steps is too small for {num_envs} environments")
        self.first = 0  # row that was added first
        self.end = 0  # row that is added next; row t is stored at index t modulo (rows + 1)
        self._sizes = (observation_size, action_size)
        self._arrays: Steps | None = None

    def allocate(self) -> Steps:
        """Return the arrays, which are made at the first call. Their memory is used only as they are filled.

        Raises:
            MemoryError: if there is not enough memory.
        """
        if self._arrays is None:
            shape = (self.rows + 1, self.num_envs)  # the additional row holds the observations after the last step
            obs, actions = (np.zeros((*shape, size), np.float32) for size in self._sizes)
            flags = (np.zeros(shape, bool) for _ in range(3))
            self._arrays = Steps(obs, actions, np.zeros(shape, np.float32), *flags)
        return self._arrays

    @property
    def capacity(self) -> int:
        """Steps that fit, including padding steps."""
        return self.rows * self.num_envs

    @property
    def size(self) -> int:
        """Steps that are stored, including padding steps."""
        return (self.end - self.start) * self.num_envs

    @property
    def start(self) -> int:
        """The oldest row that is still stored."""
        return max(self.end - self.rows, self.first)

    @property
    def can_sample(self) -> bool:
        """Whether at least one stored step is not padding."""
        return self.size > 0 and bool(self.allocate().mask.any())

    def add(self, steps: Steps) -> None:
        """Append steps, which continue the previous ones; the oldest steps are overwritten."""
        arrays, count = self.allocate(), len(steps.rewards)
        first = max(count - self.rows, 0)  # of more steps than the buffer holds, only the last ones remain
        index = (self.end + np.arange(first, count + 1)) % (self.rows + 1)
        arrays.obs[index] = steps.obs[first:]
        arrays.mask[index[-1]] = False  # of the oldest row, whose observations have just been overwritten
        index = index[:-1]
        for array, values in zip(arrays[1:], steps[1:], strict=True):
            array[index] = values[first:]
        self.end += count

    def rows_between(self, first: int, end: int) -> Steps:
        """Return a copy of the rows from `first` up to `end`, which are stored."""
        arrays, index = self.allocate(), np.arange(first, end + 1) % (self.rows + 1)
        return Steps(arrays.obs[index], *(array[index[:-1]] for array in arrays[1:]))

    def break_episodes(self) -> None:
        """Truncate all episodes, because the steps that are added next do not continue them.

        The observations after the last step, from which it is bootstrapped, become a row of padding steps.
        """
        if self.size:
            arrays = self.allocate()
            arrays.done[(self.end - 1) % (self.rows + 1)] = True
            obs = arrays.obs[self.end % (self.rows + 1)]
            padding = (np.zeros((1, *array.shape[1:]), array.dtype) for array in arrays[1:])
            self.add(Steps(np.stack([obs, obs]), *padding))

    def sample(self, size: int, rng: np.random.Generator, gamma: float, n_steps: int = 1) -> Transitions:
        """Return transitions drawn uniformly from the stored steps, with replacement.

        A transition has `n_steps` steps (Sutton 1988), or fewer at the end of an episode and of the buffer. A
        truncated episode is bootstrapped from its final observation, a terminated one is not.

        Args:
            size: B.
            rng: chooses the steps.
            gamma: discount factor γ.
            n_steps: maximum number of steps.
        """
        arrays, length = self.allocate(), self.rows + 1
        t, n = self._choose(size, rng, arrays.mask)
        index, rewards = t % length, np.zeros(size, np.float32)
        discounts, running = np.ones(size, np.float32), np.ones(size, bool)
        obs, actions = arrays.obs[index, n], arrays.actions[index, n]
        for _ in range(n_steps):
            index = t % length
            rewards += np.where(running, discounts * arrays.rewards[index, n], 0)
            discounts *= np.where(running, np.where(arrays.terminated[index, n], 0, np.float32(gamma)), 1)
            t = t + running
            running &= ~arrays.done[index, n] & (t < self.end)
        return Transitions(obs, actions, rewards, arrays.obs[t % length, n], discounts)

    def _choose(self, size: int, rng: np.random.Generator, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (B,) and environments (B,) of random steps that are not padding."""
        if not self.can_sample:
            raise ValueError("the replay buffer has no steps to sample")
        chosen = np.empty(size, np.int64)
        missing = np.arange(size)
        while len(missing):  # padding is one step per episode, so few are drawn again
            chosen[missing] = rng.integers(self.start * self.num_envs, self.end * self.num_envs, len(missing))
            t, n = np.divmod(chosen[missing], self.num_envs)
            missing = missing[~mask[t % (self.rows + 1), n]]
        t, n = np.divmod(chosen, self.num_envs)
        return t, n
