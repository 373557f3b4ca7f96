"""Environments that step one after another: those that only Gymnasium's API simulates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from milozero.environments.standard_env import StandardEnv, is_provided
from milozero.environments.vector import close_env
from milozero.helpers.seeding import GlobalRngs, make_episode_seed


class SerialVector:
    """Environments that one worker steps one after another; parallelism comes from the workers.

    Gymnasium's `SyncVectorEnv` cannot seed the episodes that it starts itself. Here, each episode has a seed of its
    own, so that an environment can be restored without repeating its earlier episodes.

    Args:
        envs: environments with equal spaces.
        max_steps: steps after which an episode is truncated; None if the environments have a time limit.
    """

    single_threaded = False
    counts_resets = False

    def __init__(self, envs: Sequence[StandardEnv], max_steps: int | None = None) -> None:
        self.envs = list(envs)
        self._max_steps = max_steps
        self._obs_space: Any = self.envs[0].observation_space
        self._seeds = [0] * len(self.envs)
        self._episodes = [0] * len(self.envs)  # numbers of the current ones
        self._lengths = [0] * len(self.envs)  # steps of the current episodes
        self._done = [False] * len(self.envs)
        # A user's environments may draw from the global generators, which these environments would share.
        self._rngs = None if is_provided(self.envs[0]) else GlobalRngs(len(self.envs))

    def seed(self, seeds: Sequence[int]) -> None:
        """Set the seeds, one per environment, from which those of its episodes derive."""
        self._seeds = list(seeds)

    def reset(self) -> np.ndarray:
        """Start the first episode of every environment; return the observations (N, O)."""
        return np.stack([self.start_episode(n, 0) for n in range(len(self.envs))])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step all environments; return observations (N, O), rewards, terminated, truncated (N,)."""
        count = len(self.envs)
        obs = np.empty((count, *self._obs_space.shape), self._obs_space.dtype)
        rewards, terminated, truncated = np.zeros(count), np.zeros(count, bool), np.zeros(count, bool)
        for n in range(count):
            if self._done[n]:
                obs[n] = self.start_episode(n, self._episodes[n] + 1)
            else:
                obs[n], rewards[n], terminated[n], truncated[n] = self.step_single(n, actions[n])
        return obs, rewards, terminated, truncated

    def start_episode(self, n: int, episode: int) -> np.ndarray:
        """Start an episode of environment `n`, by its number; return the first observation (O,)."""
        if self._rngs:
            self._rngs.activate(n)
        obs, _ = self.envs[n].reset(seed=make_episode_seed(self._seeds[n], episode))
        self._episodes[n], self._lengths[n], self._done[n] = episode, 0, False
        return np.asarray(obs)

    def step_single(self, n: int, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Step environment `n`; return observation (O,), reward, terminated, truncated."""
        if self._rngs:
            self._rngs.activate(n)
        obs, reward, terminated, truncated, _ = self.envs[n].step(action)
        self._lengths[n] += 1
        truncated = truncated or (self._lengths[n] == self._max_steps and not terminated)
        self._done[n] = bool(terminated or truncated)
        return obs, float(reward), bool(terminated), bool(truncated)

    def close(self) -> None:
        """Close all environments."""
        for env in self.envs:
            close_env(env)
