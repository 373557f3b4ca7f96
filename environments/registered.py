"""Every environment that gymnasium registers: MuJoCo, classic control, and what a user's module adds.

Training steps them through EnvPool where it has the same task, as it simulates in C++; evaluation and
rendering go through gymnasium.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs import registration

from helpers.errors import UserError, did_you_mean

# gymnasium dropped the mujoco-py versions; its v4 is the same task on the official bindings, with two switches.
SAME_TASK: dict[str, tuple[str, dict[str, Any]]] = {
    "Hopper-v3": ("Hopper-v4", {}),
    "Walker2d-v3": ("Walker2d-v4", {}),
    "HalfCheetah-v3": ("HalfCheetah-v4", {}),
    "Swimmer-v3": ("Swimmer-v4", {}),
    "Ant-v3": ("Ant-v4", {"use_contact_forces": True}),
    "Humanoid-v3": ("Humanoid-v4", {}),
    "Reacher-v2": ("Reacher-v4", {}),
    "HumanoidStandup-v2": ("HumanoidStandup-v4", {}),
    "InvertedPendulum-v2": ("InvertedPendulum-v4", {}),
    "InvertedDoublePendulum-v2": ("InvertedDoublePendulum-v4", {}),
}

# EnvPool leaves the contact forces of these two at zero, as mujoco-py did from MuJoCo 2.0 on; gymnasium does not.
POOL_OPTIONS: dict[str, dict[str, Any]] = {
    "Ant-v3": {"post_constraint": True},
    "Humanoid-v3": {"post_constraint": True},
}


def resolve(env_id: str) -> str:
    """Return the full id: a name without a version means the newest one.

    Raises:
        UserError: where no such environment is registered, with near names.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            __import__(module)
        except Exception as error:  # whatever a user's module raises
            raise UserError(
                f"cannot import '{module}' of --env_id={env_id}: {type(error).__name__}: {error}"
            ) from None
    if name in gymnasium.registry:
        return env_id
    newest = registration.find_highest_version(*registration.parse_env_id(name)[:2]) if _is_name(name) else None
    plain, _, version = name.rpartition("-v")
    if newest is not None and not (plain and version.isdigit()):
        return f"{env_id}-v{newest}"
    known = {spec.name for spec in gymnasium.registry.values()} | set(gymnasium.registry)
    raise UserError(f"no environment '{env_id}'{did_you_mean(name, known)}")


def _is_name(name: str) -> bool:
    try:
        registration.parse_env_id(name)
    except gymnasium.error.Error:
        return False
    return True


def make_env(env_id: str, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """Return one environment with flat observations.

    Raises:
        UserError: where the simulator it needs is not installed.
    """
    name, kwargs = SAME_TASK.get(env_id, (env_id, {}))
    mode: dict[str, Any] = (
        {} if render_mode is None else {"render_mode": render_mode}
    )  # not every environment knows the word
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "out of date, consider v5": the user named the version
            env = gymnasium.make(name, **mode, **kwargs)
    except (ImportError, gymnasium.error.Error) as error:
        raise UserError(f"cannot make {env_id}: {' '.join(str(error).split())}") from None
    _follow(env)
    if not isinstance(env.observation_space, spaces.Box):
        env = gymnasium.wrappers.FlattenObservation(env)
    return env


def _follow(env: gymnasium.Env[Any, Any]) -> None:
    """Keep the robot in the picture: gymnasium 1.4 takes a fixed view, and a Hopper leaves it at once."""
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is None:
        return
    import mujoco

    camera = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera < 0:
        return
    if env.render_mode == "human":  # a window's camera can be moved by hand, so it is no camera of the model
        tracking = {"type": mujoco.mjtCamera.mjCAMERA_TRACKING, "trackbodyid": 1}
        renderer.default_cam_config = tracking | (renderer.default_cam_config or {})
    else:
        renderer.camera_id = camera


def make_vector(env_id: str, num_envs: int, like: gymnasium.Env[Any, Any]) -> Any:
    """Return a vector of `num_envs` environments, to be reset with a seed for each.

    Args:
        env_id: a full id.
        num_envs: how many.
        like: one such environment; EnvPool's is used only where its spaces are the same.
    """
    if env_id in _envpool_ids() and _same_spaces(env_id, like):
        return Pool(env_id)
    mode = gymnasium.vector.AutoresetMode.NEXT_STEP
    make = functools.partial(make_env, env_id)
    return gymnasium.vector.SyncVectorEnv([make] * num_envs, autoreset_mode=mode)


class Pool:
    """EnvPool by its raw calls, with gymnasium's vector API.

    Its own gymnasium layer costs about as much per step of the vector as an environment step or two: it copies and
    names arrays that training does not read.
    """

    takes_turns = True
    metadata: dict[str, Any] = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, env_id: str) -> None:
        self._env_id = env_id
        self._pool: Any = None

    def reset(self, *, seed: list[int]) -> tuple[np.ndarray, dict[str, Any]]:
        """Start fresh episodes from the seeds; return first observations (N, O) and no further information.

        EnvPool takes seeds only when it makes its environments, so they are made anew (20 ms).
        """
        import envpool

        self.close()
        options = POOL_OPTIONS.get(self._env_id, {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on casting float64 bounds
            # One thread: the workers are the parallel unit, each with a core of its own.
            pool = envpool.make(
                self._env_id,
                env_type="gymnasium",
                num_envs=len(seed),
                seed=seed,
                num_threads=1,
                **options,
            )
        assert pool.metadata["autoreset_mode"] == self.metadata["autoreset_mode"]  # type: ignore[attr-defined]
        names = list(pool._state_keys)
        self._obs, self._reward, self._done, self._truncated = map(names.index, ("obs", "reward", "done", "trunc"))
        self._action_dtype = pool.spec.action_array_spec["action"].dtype
        self._pool, self._ids = pool, pool.all_env_ids
        pool._reset(self._ids)
        return pool._recv()[self._obs], {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every environment; return observations (N, O), rewards, terminated, truncated (N,), nothing else."""
        self._pool._send([self._ids, self._ids, actions.astype(self._action_dtype, order="C")])
        state = self._pool._recv()
        truncated = state[self._truncated]
        return state[self._obs], state[self._reward], state[self._done] & ~truncated, truncated, {}

    def close(self) -> None:
        """Free the simulators."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _envpool_ids() -> set[str]:
    try:
        import envpool
    except ImportError:  # no wheel for this platform: gymnasium's own vector serves
        return set()
    return set(envpool.list_all_envs())


def _same_spaces(env_id: str, like: gymnasium.Env[Any, Any]) -> bool:
    import envpool

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on casting float64 bounds
        spec = envpool.make_spec(env_id)
        observation, action = spec.observation_space, spec.action_space
    steps = like.spec.max_episode_steps if like.spec else None
    if observation.shape != like.observation_space.shape or spec.config.max_episode_steps != steps:
        return False
    if isinstance(action, spaces.Box) and isinstance(like.action_space, spaces.Box):
        return action.shape == like.action_space.shape and np.allclose(action.low, like.action_space.low)
    return bool(action == like.action_space)
