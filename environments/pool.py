"""Environments of EnvPool, which simulates in C++ what others do in Python."""

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

# EnvPool imports all of its suites at once, 17 of them, and with some what draws them: more than half of the
# time it takes. None of these has a task that is stepped here.
LEFT_OUT = ("atari", "gfootball", "highway", "jumanji", "minigrid", "pgx", "procgen", "vizdoom")
LEFT_OUT_OF_MUJOCO = ("metaworld", "myosuite", "playground", "robotics")


def envpool_package() -> Any:
    """Return the package, imported without the suites that are left out.

    Raises:
        ImportError: where it is not installed.
    """
    for name in (*LEFT_OUT, *(f"mujoco.{get_suite}" for get_suite in LEFT_OUT_OF_MUJOCO)):
        module = f"envpool.{name}.registration"
        sys.modules.setdefault(module, types.ModuleType(module))
    return importlib.import_module("envpool")


class Pool:
    """EnvPool by its raw calls, with gymnasium's vector API.

    Its own gymnasium layer costs about as much per step of the vector as an environment step or two: it copies and
    names arrays that training does not read.

    Args:
        env_id: EnvPool's name of the task.
        options: of EnvPool.
        keys: parts of the observation, to be joined in this order; empty where it is one array already.
    """

    single_threaded = True
    metadata: dict[str, Any] = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, env_id: str, options: Mapping[str, Any] | None = None, keys: Sequence[str] = ()) -> None:
        self._env_id = env_id
        self._options = dict(options or {})
        self._keys = [f"obs:{key}" for key in keys] or ["obs"]
        self._pool: Any = None

    def reset(self, *, seed: list[int]) -> tuple[np.ndarray, dict[str, Any]]:
        """Start fresh episodes from the seeds; return first observations (N, O) and no further information.

        EnvPool takes seeds only when it makes its environments, so they are made anew (20 ms).
        """
        envpool = envpool_package()
        self.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on casting float64 bounds
            # One thread: the workers are the parallel unit, each with a core of its own.
            pool = envpool.make(
                self._env_id,
                env_type="gymnasium",
                num_envs=len(seed),
                seed=seed,
                num_threads=1,
                **self._options,
            )
        assert pool.metadata["autoreset_mode"] == self.metadata["autoreset_mode"]
        names = list(pool._state_keys)
        self._obs = [names.index(key) for key in self._keys]
        self._reward, self._done, self._truncated = map(names.index, ("reward", "done", "trunc"))
        self._elapsed = names.index("elapsed_step")
        self._action_dtype = pool.spec.action_array_spec["action"].dtype
        self._pool, self._ids = pool, pool.all_env_ids
        pool._reset(self._ids)
        return self._observation(pool._recv()), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every environment; return observations (N, O), rewards, terminated, truncated (N,), nothing else."""
        self._pool._send([self._ids, self._ids, actions.astype(self._action_dtype, order="C")])
        state = self._pool._recv()
        truncated = state[self._truncated]
        # A fresh episode's first row still has the last one's reward in dm_control's tasks.
        reward = np.where(state[self._elapsed], state[self._reward], 0)
        return self._observation(state), reward, state[self._done] & ~truncated, truncated, {}

    def _observation(self, state: Sequence[np.ndarray]) -> np.ndarray:
        if len(self._obs) == 1:
            part = state[self._obs[0]]
            return part if part.ndim == 2 else part.reshape(len(part), -1)
        parts = [state[index] for index in self._obs]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    def close(self) -> None:
        """Free the simulators."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def has_task(env_id: str) -> bool:
    """Return whether EnvPool is installed and knows `env_id`."""
    try:
        envpool = envpool_package()
    except ImportError:  # no wheel for this platform: gymnasium's own vector serves
        return False
    return env_id in envpool.list_all_envs()


def same_spaces(env_id: str, like: gymnasium.Env[Any, Any], parts: Mapping[str, int] | None = None) -> bool:
    """Return whether EnvPool's task has the spaces and the time limit of an environment.

    Args:
        env_id: EnvPool's name of the task.
        like: the environment, its observation a vector.
        parts: name → size of the parts that vector is joined from, where EnvPool keeps them apart; it may have more.
    """
    envpool = envpool_package()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on casting float64 bounds
        spec = envpool.make_spec(env_id)
        observation, action = spec.observation_space, spec.action_space
    steps = like.spec.max_episode_steps if like.spec else None
    if parts is None:
        fits = observation.shape == like.observation_space.shape
    else:
        fits = parts.items() <= {name: math.prod(part.shape) for name, part in observation.spaces.items()}.items()
    if not fits or spec.config.max_episode_steps != steps:
        return False
    if isinstance(action, spaces.Box) and isinstance(like.action_space, spaces.Box):
        bounds = (action.low, like.action_space.low), (action.high, like.action_space.high)
        return action.shape == like.action_space.shape and all(np.allclose(*pair) for pair in bounds)
    return bool(action == like.action_space)
