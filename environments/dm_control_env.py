"""DeepMind Control tasks with Gymnasium's API, simulated by dm_control.

Shimmy's wrapper is not used: it does not seed tasks with a random model (LQR), concatenates observations in
alphabetical order, has no time limit and reports milliseconds as frames per second.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from milozero.helpers.errors import UserError, did_you_mean

INSTALL = "pip install dm_control==1.0.50"
RANDOM_MODEL_DOMAINS = ("lqr",)  # the seed determines the model itself: the stiffness of each spring
CAMERAS = {"dmc:dog-fetch": 2}  # the task's camera 0 tracks the ball, not the robot
DEFAULT_EPISODE_STEPS = 1000  # if dm_control has no time limit (LQR); all other tasks have this limit


def is_installed() -> bool:
    """Return whether dm_control is installed, without importing it."""
    return importlib.util.find_spec("dm_control") is not None


class DMControlEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One DeepMind Control task with Gymnasium's API; for the arguments, see `milozero.environments.dmc.make_env`.

    The observation (O,) float64 concatenates dm_control's observations in the order of its `observation_spec`;
    `parts` maps their names to their sizes. Frames come from camera 0, unless `CAMERAS` names another one.

    Raises:
        UserError: if dm_control is not installed or the task rejects `task_kwargs`.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012

    def __init__(
        self, env_id: str, render_mode: str | None = None, task_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        assert render_mode is None or render_mode in self.metadata["render_modes"], render_mode
        self.render_mode = render_mode
        self._env_id = env_id
        self._random = np.random.RandomState()  # dm_control takes no other generator
        self._load = functools.partial(load_task, env_id, dict(task_kwargs or {}), self._random)
        self._env, max_steps = self._load()
        self._has_random_model = env_id.removeprefix("dmc:").startswith(RANDOM_MODEL_DOMAINS)
        self._renderer: Any = None
        self.metadata = self.metadata | {"render_fps": round(1 / self._env.control_timestep())}
        self.parts = {name: math.prod(spec.shape) for name, spec in self._env.observation_spec().items()}
        self.observation_space = spaces.Box(-np.inf, np.inf, (sum(self.parts.values()),), np.float64)
        action = self._env.action_spec()
        low, high = (np.asarray(bound, np.float32) for bound in (action.minimum, action.maximum))
        self.action_space = spaces.Box(low, high, action.shape, np.float32)
        self.spec = EnvSpec(
            env_id,
            entry_point="milozero.environments.dm_control_env:DMControlEnv",
            max_episode_steps=max_steps,
            kwargs={"env_id": env_id, "task_kwargs": dict(task_kwargs or {})},
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; return the first observation (O,) and an empty info."""
        super().reset(seed=seed)
        if seed is not None:
            self._random.seed(int(self.np_random.integers(2**32)))
            if self._has_random_model:
                self.close()
                self._env, _ = self._load()
        obs = self._flatten(self._env.reset())
        self._upload_terrain()
        if self.render_mode == "human":
            self.render()
        return obs, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one step; return observation (O,), reward, terminated, truncated and an empty info."""
        step = self._env.step(np.asarray(action, np.float64))
        terminated = bool(step.last() and step.discount == 0.0)  # the discount stays 1 at the time limit
        if self.render_mode == "human":
            self.render()
        return self._flatten(step), float(step.reward), terminated, bool(step.last()) and not terminated, {}

    def _flatten(self, step: Any) -> np.ndarray:
        return np.concatenate([np.ravel(part) for part in step.observation.values()], dtype=np.float64)

    def render(self) -> Any:
        """Return a frame (480, 480, 3) uint8, or show it in a window if the render mode is ``human``."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = self._make_renderer()
        return self._renderer.render(self.render_mode)

    def _make_renderer(self) -> Any:
        """Return the renderer of Gymnasium's MuJoCo tasks, on one of the model's cameras."""
        import mujoco
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

        model, data = self._env.physics.model.ptr, self._env.physics.data.ptr
        camera = CAMERAS.get(self._env_id, 0)
        window = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": camera}
        config = window if self.render_mode == "human" else None
        return MujocoRenderer(model, data, config, width=480, height=480, camera_id=camera)

    def _upload_terrain(self) -> None:
        """Update OpenGL's copy of the terrain, which a reset may regenerate."""
        viewer = getattr(self._renderer, "viewer", None)
        model = self._env.physics.model.ptr
        if viewer is not None and model.nhfield:
            import mujoco

            viewer.make_context_current()
            mujoco.mjr_uploadHField(model, viewer.con, 0)

    def close(self) -> None:
        """Close the window or the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def load_task(env_id: str, task_kwargs: dict[str, Any], random: np.random.RandomState) -> tuple[Any, int]:
    """Return dm_control's environment and the number of steps in an episode.

    Raises:
        UserError: if dm_control is not installed or the task rejects `task_kwargs`.
    """
    domain, task = env_id.removeprefix("dmc:").split("-")
    with _quiet_dm_control(env_id):
        from dm_control import suite

        parameters = inspect.signature(importlib.import_module(f"dm_control.suite.{domain}").SUITE[task]).parameters
        task_defaults = {k: p.default for k, p in parameters.items() if k not in ("random", "environment_kwargs")}
        env_defaults = {"control_timestep": 1.0, "legacy_step": True}
        _check_kwargs(env_id, task_kwargs, task_defaults | env_defaults)
        try:
            env = suite.load(
                domain,
                task,
                {"random": random} | {name: value for name, value in task_kwargs.items() if name in task_defaults},
                {name: value for name, value in task_kwargs.items() if name in env_defaults},
            )
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{env_id} does not accept --env_kwargs={task_kwargs}: {' '.join(str(error).split())}"
            ) from None
    if env.physics.model.nhfield:
        # For a new terrain, dm_control would open OpenGL to update its own renderer, which is not used here.
        physics = type(env.physics)
        env.physics.__class__ = type(physics.__name__, (physics,), {"contexts": None})
    time_limit = task_kwargs.get("time_limit", task_defaults["time_limit"])
    return env, DEFAULT_EPISODE_STEPS if math.isinf(time_limit) else math.ceil(time_limit / env.control_timestep())


def _check_kwargs(env_id: str, task_kwargs: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Check the names and types of a task's keyword arguments."""
    for name, value in task_kwargs.items():
        if name not in defaults:
            hint = did_you_mean(name, defaults) or f"; it accepts {', '.join(defaults)}"
            raise UserError(f"{env_id} does not accept '{name}' in --env_kwargs{hint}")
        if isinstance(defaults[name], bool):
            if not isinstance(value, bool):
                raise UserError(f"{env_id}: {name} must be true or false, not '{value}'")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise UserError(f"{env_id}: {name} must be a positive number, not '{value}'")


@contextlib.contextmanager
def _quiet_dm_control(env_id: str) -> Iterator[None]:
    """Suppress dm_control's warnings about a missing display and deprecated features while it loads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not is_installed():
            raise UserError(f"{env_id} requires dm_control ({INSTALL})")
        try:
            import dm_control.suite  # noqa: F401
            from absl import logging
        except Exception as error:  # it imports the MUJOCO_GL renderer, which raises arbitrary exceptions
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(f"{env_id}: cannot import dm_control: {reason}; try without MUJOCO_GL") from None
        level = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            yield
        finally:
            logging.set_verbosity(level)
