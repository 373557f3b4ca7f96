"""The vector environment that one worker steps, independent of the simulator."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from milozero.environments.actions import describe_space, make_converter
from milozero.environments.base import Vector
from milozero.helpers.errors import RunError, UserError, describe_exception
from milozero.helpers.logging import logger
from milozero.helpers.seeding import preserve_global_rngs


def check_spaces(env_id: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Check that agents support the spaces of an environment.

    Raises:
        UserError: if they do not; the message names the environment, the space and the fix.
    """
    try:
        make_converter(action_space)
    except ValueError as error:
        raise UserError(f"{env_id}: {error}") from None
    image_shapes = [space.shape for space in _leaf_spaces(observation_space) if len(space.shape or ()) > 2]
    if image_shapes:
        raise UserError(
            f"{env_id}: image observations of shape {image_shapes[0]} are not supported; if they are not images, "
            f"flatten them with gymnasium.wrappers.FlattenObservation"
        )
    flat_space = None
    with contextlib.suppress(NotImplementedError, ValueError):  # ValueError: an empty Dict or Tuple
        flat_space = spaces.flatten_space(observation_space)
    if not isinstance(flat_space, spaces.Box):
        raise UserError(
            f"{env_id}: the observation space {describe_space(observation_space)} cannot be flattened to a vector; "
            f"convert it to a Box with a gymnasium.ObservationWrapper"
        )
    if not flat_space.shape[0]:
        described = describe_space(observation_space)
        raise UserError(f"{env_id}: the observation space {described} is empty; return a constant instead")


def flatten_observations(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Return an environment that observes a Box, which `StandardEnv` turns into a vector of floating-point numbers.

    Its space has passed `check_spaces`. A Box stays as it is: `FlattenObservation` would cast floats to the integers
    that its space declares, and accept any shape.
    """
    return env if isinstance(env.observation_space, spaces.Box) else gymnasium.wrappers.FlattenObservation(env)


def _leaf_spaces(space: spaces.Space[Any]) -> list[spaces.Space[Any]]:
    """Return the leaves of a nested space."""
    if isinstance(space, spaces.Dict):
        return [leaf for child in space.spaces.values() for leaf in _leaf_spaces(child)]
    if isinstance(space, spaces.Tuple):
        return [leaf for child in space.spaces for leaf in _leaf_spaces(child)]
    return [space]


def check_first_obs(env_id: str, env: gymnasium.Env[Any, Any], has_kwargs: bool) -> None:
    """Reset an environment once and check the observation; the global random generators keep their state.

    Args:
        env_id: full id.
        env: the environment, from `registry.make_env`.
        has_kwargs: whether ``--env_kwargs`` are set, which may be why the reset fails.

    Raises:
        UserError: if the reset fails, or the observation has the wrong type or shape or is not finite.
    """
    try:
        with preserve_global_rngs():
            obs, _ = env.reset(seed=0)
    except RunError as error:
        raise UserError(f"{env_id}: {error}") from None
    except Exception as error:  # environments raise arbitrary exceptions
        cause = " cannot be reset with these --env_kwargs" if has_kwargs else ": reset() failed"
        raise UserError(f"{env_id}{cause}: {describe_exception(error)}") from None
    if not np.isfinite(obs).all():
        raise UserError(f"{env_id}: the first observation is not finite: {obs}")


def close_env(env: Any) -> None:
    """Close an environment or a vector of them; only log an exception of its ``close()``."""
    try:
        env.close()
    except Exception as error:  # environments raise arbitrary exceptions
        logger.warning(f"close() of the environment failed: {type(error).__name__}: {error}")


def get_time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Return the number of steps after which an environment truncates episodes; None if it has no time limit."""
    return env.spec.max_episode_steps if env.spec else None


@dataclass(frozen=True)
class CurrentEpisode:
    """The episode that an environment is in, which restores the environment if its seed is known."""

    number: int  # episodes before it
    actions: np.ndarray  # (K, A) or (K,), its actions so far, as given to `VectorEnv.step`


def checksum_steps(obs: np.ndarray, rewards: np.ndarray, done: np.ndarray, start: int = 0) -> int:
    """Return the CRC-32 of an episode's steps, in the precision in which agents see them.

    Args:
        obs: (K, O), after each step; the first one of an episode counts as a step with reward 0.
        rewards: (K,).
        done: (K,), whether the step ended the episode.
        start: the checksum of earlier steps.
    """
    rows = np.concatenate([obs, rewards[:, None], done[:, None]], axis=1, dtype=np.float32)
    return zlib.crc32(rows.tobytes(), start)


class VectorEnv:
    """`num_envs` environments stepped together, each reset on the step after its episode ends.

    Args:
        env: simulates them.
        observation_space: of one environment.
        action_space: of one environment.
        num_envs: how many there are.
        time_limit: steps of an episode; None if unlimited.
        max_steps: steps after which `env` truncates episodes that have no or a very long time limit.
    """

    def __init__(
        self,
        env: Vector,
        observation_space: spaces.Box,
        action_space: spaces.Space[Any],
        num_envs: int,
        time_limit: int | None = None,
        max_steps: int | None = None,
    ) -> None:
        self._env = env
        self.time_limit = time_limit
        self.max_steps = max_steps
        self.single_threaded = env.single_threaded
        self.num_envs = num_envs
        self.observation_space = observation_space
        self.action_space = action_space
        self.observation_size = int(observation_space.shape[0])
        self.converter = make_converter(action_space)
        self.policy_space = self.converter.policy_space
        self.discrete = isinstance(self.policy_space, spaces.Discrete)
        self.action_shape: tuple[int, ...] = self.policy_space.shape  # of the policy, as is the dtype
        self.action_dtype = np.int64 if self.discrete else np.float32

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Start first episodes from one seed per environment; return the first observations (N, O).

        The seeds also determine all later episodes.
        """
        self._env.seed(seeds)
        return self._env.reset()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step every environment with the policy's actions (N, A) or (N,), clipped to the action space.

        Actions are in the policy's units; see `milozero.environments.actions`.

        Returns:
            Observations (N, O), rewards (N,), terminated (N,), truncated (N,).
        """
        return self._env.step(self.converter.to_env(actions))

    def restore(
        self, seeds: Sequence[int], episodes: Sequence[CurrentEpisode], should_stop: Callable[[], bool]
    ) -> tuple[np.ndarray, np.ndarray, list[int]] | None:
        """Bring every environment into its current episode, by repeating its actions.

        Args:
            seeds: as for `reset`.
            episodes: one per environment.
            should_stop: asked before each step and reset.

        Returns:
            The last observations (N, O), whether the episodes have ended (N,), and the checksum of each episode's
            steps; see `checksum_steps`. None if `should_stop`.
        """
        self._env.seed(seeds)
        last_obs, done, checksums = [], np.zeros(self.num_envs, bool), []
        for n, episode in enumerate(episodes):
            for number in range(0 if self._env.counts_resets else episode.number, episode.number + 1):
                if should_stop():
                    return None
                obs = self._env.start_episode(n, number)
            checksum = checksum_steps(obs[None], np.zeros(1), np.zeros(1))
            for action in self.converter.to_env(episode.actions):
                if should_stop():
                    return None
                if done[n]:  # so these are not the steps of this episode
                    checksum = -1
                    break
                obs, reward, terminated, truncated = self._env.step_single(n, action)
                done[n] = terminated or truncated
                checksum = checksum_steps(obs[None], np.array([reward]), done[n : n + 1], checksum)
            last_obs.append(np.array(obs))
            checksums.append(checksum)
        return np.stack(last_obs), done, checksums

    def close(self) -> None:
        """Free the simulators."""
        close_env(self._env)
