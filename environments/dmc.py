"""DeepMind Control's suite: ``dmc:cheetah-run``, also as ``dm_control/cheetah-run-v0``.

Training steps the tasks through EnvPool where its port is the same task; the others, evaluation and rendering go
through dm_control. Shimmy's wrapper is not used: it does not seed a model that is drawn (LQR), joins observations in
the order of the alphabet, knows no time limit and takes milliseconds for frames a second.
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

from milozero.environments import registered
from milozero.environments.pool import Pool, has_task, same_spaces
from milozero.helpers.errors import UserError, did_you_mean

PACKAGES = ("dm_control", "mujoco", "gymnasium", "envpool")
INSTALL = "pip install dm_control==1.0.50"
OPENGL = True

PREFIXES = ("dmc:", "dm_control/")

# domain → its tasks, as in dm_control.suite.ALL_TASKS, whose import takes a second
TASKS = {
    "acrobot": ("swingup", "swingup_sparse"),
    "ball_in_cup": ("catch",),
    "cartpole": ("balance", "balance_sparse", "swingup", "swingup_sparse", "two_poles", "three_poles"),
    "cheetah": ("run",),
    "dog": ("stand", "walk", "trot", "run", "fetch"),
    "finger": ("spin", "turn_easy", "turn_hard"),
    "fish": ("upright", "swim"),
    "hopper": ("stand", "hop"),
    "humanoid": ("stand", "walk", "run", "run_pure_state"),
    "humanoid_CMU": ("stand", "walk", "run"),
    "lqr": ("lqr_2_1", "lqr_6_2"),
    "manipulator": ("bring_ball", "bring_peg", "insert_ball", "insert_peg"),
    "pendulum": ("swingup",),
    "point_mass": ("easy", "hard"),
    "quadruped": ("walk", "run", "escape", "fetch"),
    "reacher": ("easy", "hard"),
    "stacker": ("stack_2", "stack_4"),
    "swimmer": ("swimmer6", "swimmer15"),
    "walker": ("stand", "walk", "run"),
}

# Where EnvPool 1.2.5, built on MuJoCo 3.6, is another task than dm_control 1.0.50: benchmarks/dmc_parity.py measures.
LEFT_TO_DM_CONTROL = {
    "dmc:ball_in_cup-catch": "the reward takes the size of a part of the cup for the ball's",
    "dmc:cartpole-two_poles": "the upper pole starts within 0.01 rad, not 0.1",
    "dmc:cartpole-three_poles": "the upper poles start within 0.01 rad, not 0.1",
    "dmc:dog-fetch": "paws touch the target in other points in its MuJoCo",
    "dmc:finger-spin": "contacts with the spinner are 60 times softer in its MuJoCo",
    "dmc:finger-turn_easy": "contacts with the spinner are 60 times softer in its MuJoCo",
    "dmc:finger-turn_hard": "contacts with the spinner are 60 times softer in its MuJoCo",
    "dmc:lqr-lqr_2_1": "the springs and the first state come from the same random numbers",
    "dmc:lqr-lqr_6_2": "the springs and the first state come from the same random numbers",
    "dmc:quadruped-escape": "the terrain's bumps are not smoothed",
    "dmc:stacker-stack_2": "boxes touch in other points in its MuJoCo",
    "dmc:stacker-stack_4": "boxes touch in other points in its MuJoCo",
}

DRAWN_MODELS = ("lqr",)  # domains whose model itself comes from the seed: the stiffness of each spring
CAMERAS = {"dmc:dog-fetch": 2}  # where camera 0, of all others, does not show the robot: it watches the ball
STEPS = 1000  # of an episode where dm_control has no limit (LQR), as in all its other tasks


def longest_replay(kwargs: dict[str, Any]) -> int:
    """Return the steps that resuming may have to take again."""
    return 200_000  # a minute or two; four of dogs


def ids() -> list[str]:
    """Return the full ids of the suite's tasks, whether dm_control is installed or not."""
    return [f"dmc:{domain}-{task}" for domain, tasks in TASKS.items() for task in tasks]


def _installed() -> bool:
    return importlib.util.find_spec("dm_control") is not None


def claims(env_id: str) -> bool:
    """Take what begins with ``dmc:`` or ``dm_control/``."""
    return env_id.startswith(PREFIXES)


def resolve(env_id: str) -> str:
    """Return the full id, ``dmc:domain-task`` with dm_control's names.

    Raises:
        UserError: where there is no such task, with near names, or dm_control is not installed.
    """
    prefix = next(prefix for prefix in PREFIXES if env_id.startswith(prefix))
    full = f"dmc:{env_id.removeprefix(prefix).removesuffix('-v0')}"
    if full not in ids():
        hint = did_you_mean(full, ids()) or "; they are named dmc:domain-task, like dmc:cheetah-run"
        raise UserError(f"no environment '{env_id}'{hint}")
    if not _installed():
        raise UserError(f"{env_id} needs dm_control; {INSTALL}")
    return full


def make_env(env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Return one task of dm_control, cut off at its time limit.

    Args:
        env_id: a full id.
        render_mode: ``rgb_array``, ``human`` or None.
        kwargs: ``time_limit`` and ``control_timestep`` in seconds, ``legacy_step``, and what the task itself has.

    Raises:
        UserError: where dm_control is not installed, or the task does not know one of `kwargs`.
    """
    env = SuiteEnv(env_id, render_mode, kwargs)
    assert env.spec is not None
    assert env.spec.max_episode_steps is not None
    return gymnasium.wrappers.TimeLimit(env, env.spec.max_episode_steps)


def make_vector(env_id: str, num_envs: int, like: gymnasium.Env[Any, Any], kwargs: dict[str, Any]) -> Any:
    """Return a vector of `num_envs` environments: EnvPool's where they are the same as `like`."""
    name, parts = pool_name(env_id), like.unwrapped.parts  # type: ignore[attr-defined]
    if not kwargs and env_id not in LEFT_TO_DM_CONTROL and has_task(name) and same_spaces(name, like, parts):
        return Pool(name, keys=list(parts))
    return registered.make_sync_vector(functools.partial(make_env, env_id, None, kwargs), num_envs)


def pool_name(env_id: str) -> str:
    """Return EnvPool's name of a task: ``CheetahRun-v1`` for ``dmc:cheetah-run``."""
    words = env_id.removeprefix("dmc:").replace("-", "_").split("_")
    return "".join(word[:1].upper() + word[1:] for word in words) + "-v1"


class SuiteEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One task of the suite with gymnasium's API.

    The observation (O,) float64 is what dm_control observes, part by part in the order of its `observation_spec`;
    `parts` names them. Camera 0 takes the pictures, or the one of `CAMERAS`.

    Args:
        env_id: a full id.
        render_mode: ``rgb_array``, ``human`` or None.
        settings: as the ``kwargs`` of `make_env`.

    Raises:
        UserError: where dm_control is not installed, or the task does not know one of the settings.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012

    def __init__(
        self, env_id: str, render_mode: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        assert render_mode is None or render_mode in self.metadata["render_modes"], render_mode
        self.render_mode = render_mode
        self._env_id = env_id
        self._random = np.random.RandomState()  # the only kind that dm_control takes
        self._new = functools.partial(_load, env_id, dict(settings or {}), self._random)
        self._suite, steps = self._new()
        self._draws_model = env_id.removeprefix("dmc:").startswith(DRAWN_MODELS)
        self._renderer: Any = None
        self.metadata = self.metadata | {"render_fps": round(1 / self._suite.control_timestep())}
        self.parts = {name: math.prod(spec.shape) for name, spec in self._suite.observation_spec().items()}
        self.observation_space = spaces.Box(-np.inf, np.inf, (sum(self.parts.values()),), np.float64)
        action = self._suite.action_spec()
        low, high = (np.asarray(bound, np.float32) for bound in (action.minimum, action.maximum))
        self.action_space = spaces.Box(low, high, action.shape, np.float32)
        self.spec = EnvSpec(
            env_id,
            entry_point="milozero.environments.dmc:SuiteEnv",
            max_episode_steps=steps,
            kwargs={"env_id": env_id, "settings": dict(settings or {})},
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; return its first observation (O,) and no further information."""
        super().reset(seed=seed)
        if seed is not None:
            self._random.seed(int(self.np_random.integers(2**32)))
            if self._draws_model:
                self.close()
                self._suite, _ = self._new()
        obs = self._flat(self._suite.reset())
        self._upload_terrain()
        if self.render_mode == "human":
            self.render()
        return obs, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one step; return observation (O,), reward, terminated, truncated, and no further information."""
        step = self._suite.step(np.asarray(action, np.float64))
        terminated = bool(step.last() and step.discount == 0.0)  # the time limit leaves the discount at 1
        if self.render_mode == "human":
            self.render()
        return self._flat(step), float(step.reward), terminated, bool(step.last()) and not terminated, {}

    def _flat(self, step: Any) -> np.ndarray:
        return np.concatenate([np.ravel(part) for part in step.observation.values()], dtype=np.float64)

    def render(self) -> Any:
        """Return a frame (480, 480, 3) uint8, or show it in a window where the mode is ``human``."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            camera = CAMERAS.get(self._env_id, 0)
            self._renderer = _renderer(self._suite.physics, self.render_mode, camera)
        return self._renderer.render(self.render_mode)

    def _upload_terrain(self) -> None:
        """Show the renderer a terrain that was made anew: OpenGL has a copy of it."""
        viewer = getattr(self._renderer, "viewer", None)
        model = self._suite.physics.model.ptr
        if viewer is not None and model.nhfield:
            import mujoco

            viewer.make_context_current()
            mujoco.mjr_uploadHField(model, viewer.con, 0)

    def close(self) -> None:
        """Close the window or the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _renderer(physics: Any, render_mode: str, camera: int) -> Any:
    """Return gymnasium's renderer, the same as for its own MuJoCo tasks, on one of the model's cameras."""
    import mujoco
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

    window = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": camera}
    return MujocoRenderer(
        physics.model.ptr,
        physics.data.ptr,
        default_cam_config=window if render_mode == "human" else None,
        width=480,
        height=480,
        camera_id=camera,
    )


def _load(env_id: str, settings: dict[str, Any], random: np.random.RandomState) -> tuple[Any, int]:
    """Return dm_control's environment and the number of steps of an episode.

    Raises:
        UserError: where dm_control is not installed, or the task does not know one of the settings.
    """
    domain, task = env_id.removeprefix("dmc:").split("-")
    with _quiet(env_id):
        from dm_control import suite

        parameters = inspect.signature(importlib.import_module(f"dm_control.suite.{domain}").SUITE[task]).parameters
        defaults = {name: p.default for name, p in parameters.items() if name not in ("random", "environment_kwargs")}
        others = {"control_timestep": 1.0, "legacy_step": True}
        _check(env_id, settings, defaults | others)
        try:
            env = suite.load(
                domain,
                task,
                {"random": random} | {name: value for name, value in settings.items() if name in defaults},
                {name: value for name, value in settings.items() if name in others},
            )
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{env_id} does not take --env_kwargs={settings}: {' '.join(str(error).split())}"
            ) from None
    if env.physics.model.nhfield:
        # dm_control would open OpenGL to show a new terrain to its own renderer, which nobody looks at here.
        physics = type(env.physics)
        env.physics.__class__ = type(physics.__name__, (physics,), {"contexts": None})
    limit = settings.get("time_limit", defaults["time_limit"])
    return env, STEPS if math.isinf(limit) else math.ceil(limit / env.control_timestep())


def _check(env_id: str, settings: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Refuse settings that the task does not have or that are not of their kind.

    Raises:
        UserError: naming the setting.
    """
    for name, value in settings.items():
        if name not in defaults:
            hint = did_you_mean(name, defaults) or f"; there are {', '.join(defaults)}"
            raise UserError(f"{env_id} has no setting '{name}'{hint}")
        if isinstance(defaults[name], bool):
            if not isinstance(value, bool):
                raise UserError(f"{env_id}: {name} is true or false, not '{value}'")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise UserError(f"{env_id}: {name} is a number above 0, not '{value}'")


@contextlib.contextmanager
def _quiet(env_id: str) -> Iterator[None]:
    """Keep off the terminal what dm_control warns about when it loads: no display, words it will no longer use.

    Raises:
        UserError: where it is not installed, or does not load.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not _installed():
            raise UserError(f"{env_id} needs dm_control; {INSTALL}")
        try:
            import dm_control.suite  # noqa: F401
            from absl import logging
        except Exception as error:  # it loads the renderer that MUJOCO_GL names, which raises what it likes
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(f"{env_id}: dm_control does not load: {reason}; does it without MUJOCO_GL?") from None
        level = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            yield
        finally:
            logging.set_verbosity(level)
