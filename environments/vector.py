"""The vector of environments that one worker steps, whoever simulates it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from milozero.helpers.errors import UserError


def check_spaces(env_id: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Refuse spaces that no agent here can use.

    Raises:
        UserError: naming the environment and what does not fit.
    """
    if isinstance(action_space, spaces.Dict | spaces.Tuple):
        raise UserError(f"{env_id}: several actions at once, as of several agents, are not supported: {action_space}")
    if not isinstance(action_space, spaces.Discrete) and not _is_vector(action_space):
        raise UserError(f"{env_id}: actions {action_space} are not supported; Box vectors and Discrete are")
    pictures = [part.shape for part in _parts(observation_space) if len(part.shape or ()) > 2]
    if pictures:
        raise UserError(f"{env_id}: observations are pictures, of shape {pictures[0]}; only vectors are supported")
    if isinstance(observation_space, spaces.Box):
        if not _is_vector(observation_space):
            raise UserError(f"{env_id}: observations of shape {observation_space.shape}; only vectors are supported")
        return
    flat = None
    with contextlib.suppress(NotImplementedError):
        flat = spaces.flatten_space(observation_space)
    if not isinstance(flat, spaces.Box):
        raise UserError(f"{env_id}: observations {observation_space} cannot be flattened to a vector")


def _is_vector(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def _parts(space: spaces.Space[Any]) -> list[spaces.Space[Any]]:
    """Return a space, or those that it is made of."""
    if isinstance(space, spaces.Dict):
        return [part for inner in space.spaces.values() for part in _parts(inner)]
    if isinstance(space, spaces.Tuple):
        return [part for inner in space.spaces for part in _parts(inner)]
    return [space]


def check_first(env_id: str, env: gymnasium.Env[Any, Any], changed: bool) -> None:
    """Reset an environment once and see whether it gives what its observation space promises.

    Args:
        env_id: its full id.
        env: the environment.
        changed: whether it was made with what the user wanted different, which is then to blame for an error.

    Raises:
        UserError: naming the environment and what it gave.
    """
    try:
        obs, _ = env.reset(seed=0)
    except Exception as error:  # whatever its class raises
        if not changed:
            raise
        raise UserError(f"{env_id} does not start with these --env_kwargs: {type(error).__name__}: {error}") from None
    try:
        numbers = np.asarray(obs, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{env_id}: its first observation is no vector of numbers: {type(obs).__name__}") from None
    if numbers.shape != env.observation_space.shape:
        promised = env.observation_space.shape
        raise UserError(f"{env_id}: its first observation has shape {numbers.shape}, its space {promised}")
    if not np.isfinite(numbers).all():
        raise UserError(f"{env_id}: its first observation is not finite: {numbers}")


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
        self.single_threaded = bool(
            getattr(env, "single_threaded", False)
        )  # its one thread works while the caller waits
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
