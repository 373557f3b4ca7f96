"""EnvPool: C++ simulators of environments that other packages step in Python."""

from __future__ import annotations

import importlib
import math
import sys
import types
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

# EnvPool imports all of its 17 suites, some with their renderers. Skipping these more than halves its import
# time; no environment here uses their tasks.
SKIPPED_SUITES = ("atari", "gfootball", "highway", "jumanji", "minigrid", "pgx", "procgen", "vizdoom")
SKIPPED_MUJOCO_SUITES = ("metaworld", "myosuite", "playground", "robotics")


def import_envpool() -> Any:
    """Return the package, imported without the skipped suites.

    Raises:
        ImportError: if EnvPool is not installed.
    """
    for suite in (*SKIPPED_SUITES, *(f"mujoco.{suite}" for suite in SKIPPED_MUJOCO_SUITES)):
        module = f"envpool.{suite}.registration"
        sys.modules.setdefault(module, types.ModuleType(module))
    return importlib.import_module("envpool")


class EnvPoolVector:
    """EnvPool through its raw calls, as a `milozero.environments.base.Vector`.

    EnvPool's own Gymnasium layer also copies arrays that training does not read, which takes as long as one or two
    environment steps in each vector step.

    Args:
        env_id: EnvPool's name of the task.
        options: options of EnvPool.
        keys: components of the observation, concatenated in this order; empty if it is a single array.
    """

    single_threaded = True
    counts_resets = True

    def __init__(self, env_id: str, options: Mapping[str, Any] | None = None, keys: Sequence[str] = ()) -> None:
        self._env_id = env_id
        self._options = dict(options or {})
        self._keys = [f"obs:{key}" for key in keys] or ["obs"]
        self._pool: Any = None

    def seed(self, seeds: Sequence[int]) -> None:
        """Make new environments, one per seed (20 ms): EnvPool accepts seeds only then."""
        envpool = import_envpool()
        self.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about casting float64 bounds
            # One thread: parallelism comes from the workers, each on its own core.
            pool = envpool.make(
                self._env_id,
                env_type="gymnasium",
                num_envs=len(seeds),
                seed=list(seeds),
                num_threads=1,
                **self._options,
            )
        assert pool.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.NEXT_STEP
        names = list(pool._state_keys)
        self._obs = [names.index(key) for key in self._keys]
        self._reward, self._done, self._truncated = map(names.index, ("reward", "done", "trunc"))
        self._elapsed = names.index("elapsed_step")
        self._action_dtype = pool.spec.action_array_spec["action"].dtype
        self._pool, self._env_ids = pool, pool.all_env_ids

    def reset(self) -> np.ndarray:
        """Start the first episode of every environment; return the observations (N, O)."""
        self._pool._reset(self._env_ids)
        return self._observation(self._pool._recv())

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step all environments; return observations (N, O), rewards, terminated, truncated (N,)."""
        return self._step(self._env_ids, actions)

    def start_episode(self, n: int, episode: int) -> np.ndarray:
        """Start the next episode of environment `n`; return the first observation (O,).

        Each reset continues the environment's random numbers, so all earlier episodes must have been started.
        """
        self._pool._reset(self._env_ids[n : n + 1])
        return self._observation(self._pool._recv())[0]

    def step_single(self, n: int, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Step environment `n`; return observation (O,), reward, terminated, truncated."""
        obs, reward, terminated, truncated = self._step(self._env_ids[n : n + 1], np.asarray(action)[None])
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0])

    def _step(self, ids: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        self._pool._send([ids, ids, actions.astype(self._action_dtype, order="C")])
        state = self._pool._recv()
        truncated = state[self._truncated]
        # After a reset, dm_control's tasks still return the last reward of the previous episode.
        reward = np.where(state[self._elapsed], state[self._reward], 0)
        return self._observation(state), reward, state[self._done] & ~truncated, truncated

    def _observation(self, state: Sequence[np.ndarray]) -> np.ndarray:
        parts = [state[index].reshape(len(state[index]), -1) for index in self._obs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def close(self) -> None:
        """Free the simulators."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def has_task(env_id: str) -> bool:
    """Return whether EnvPool is installed and has the task `env_id`."""
    try:
        envpool = import_envpool()
    except ImportError:  # no wheel for this platform: `SerialVector` steps the task
        return False
    return env_id in envpool.list_all_envs()


def has_same_spaces(env_id: str, env: gymnasium.Env[Any, Any], parts: Mapping[str, int] | None = None) -> bool:
    """Return whether EnvPool's task has the spaces and the time limit of `env`.

    Args:
        env_id: EnvPool's name of the task.
        env: the environment, with a vector observation.
        parts: component → size of the observation, if EnvPool keeps the components apart; it may have more.
    """
    envpool = import_envpool()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about casting float64 bounds
        spec = envpool.make_spec(env_id)
        observation, action = spec.observation_space, spec.action_space
    max_steps = env.spec.max_episode_steps if env.spec else None
    if parts is None:
        same_obs = observation.shape == env.observation_space.shape
    else:
        same_obs = parts.items() <= {name: math.prod(part.shape) for name, part in observation.spaces.items()}.items()
    if not same_obs or spec.config.max_episode_steps != max_steps:
        return False
    if isinstance(action, spaces.Box) and isinstance(env.action_space, spaces.Box):
        bounds = (action.low, env.action_space.low), (action.high, env.action_space.high)
        return action.shape == env.action_space.shape and all(np.allclose(*pair) for pair in bounds)
    return bool(action == env.action_space)
