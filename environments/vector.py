"""The vector of environments that one worker steps, whoever simulates it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from helpers.errors import UserError


def check_spaces(env_id: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Refuse spaces that no agent here can use.

    Raises:
        UserError: naming the environment and what does not fit.
    """
    flat: spaces.Space[Any] = observation_space
    with contextlib.suppress(NotImplementedError):
        flat = spaces.flatten_space(observation_space)
    if not isinstance(flat, spaces.Box):
        raise UserError(f"{env_id}: observations {observation_space} cannot be flattened to a vector")
    if isinstance(observation_space, spaces.Box) and len(observation_space.shape) > 1:
        raise UserError(f"{env_id}: observations of shape {observation_space.shape}; only vectors are supported")
    if isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
        return
    if isinstance(action_space, spaces.Discrete):
        return
    raise UserError(f"{env_id}: actions {action_space} are not supported; Box vectors and Discrete are")


class VectorEnv:
    """`num_envs` environments stepped together, which reset themselves on the step after an episode's end.

    Args:
        env: a vector environment with gymnasium's API and next-step autoreset.
        observation_space: of one environment, a Box of one dimension.
        action_space: of one environment, a Box of one dimension or Discrete.
        num_envs: how many there are.
    """

    def __init__(
        self,
        env: Any,
        observation_space: spaces.Box,
        action_space: spaces.Box | spaces.Discrete,
        num_envs: int,
    ) -> None:
        self._env = env
        self.takes_turns = bool(getattr(env, "takes_turns", False))  # its one thread works while the caller waits
        self.num_envs = num_envs
        self.observation_space = observation_space
        self.action_space = action_space
        self.observation_size = int(observation_space.shape[0])
        self.discrete = isinstance(action_space, spaces.Discrete)
        self.action_shape: tuple[int, ...] = () if self.discrete else tuple(action_space.shape or ())
        self.action_dtype = np.int64 if self.discrete else np.float32
        mode = getattr(env, "metadata", {}).get("autoreset_mode")
        assert mode in (None, gymnasium.vector.AutoresetMode.NEXT_STEP), mode

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Start fresh episodes, each environment from its seed; return the first observations (N, O)."""
        obs, _ = self._env.reset(seed=list(seeds))
        return np.asarray(obs)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step every environment with the policy's `actions`, clipped to what the environment allows.

        Returns:
            Observations (N, O), rewards (N,), terminated (N,), truncated (N,).
        """
        obs, rewards, terminated, truncated, _ = self._env.step(environment_action(actions, self.action_space))
        return obs, rewards, terminated, truncated

    def close(self) -> None:
        """Free the simulators."""
        self._env.close()


def environment_action(action: Any, space: spaces.Space[Any]) -> Any:
    """Return what the environment gets for a policy's action: clipped to its Box, or counted from its start."""
    if isinstance(space, spaces.Box):
        return np.clip(action, space.low, space.high)
    assert isinstance(space, spaces.Discrete)
    return action + space.start if space.start else action
