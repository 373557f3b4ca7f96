"""Gymnasium's MuJoCo tasks, versions 3 (where it is version 4), 4 and 5.

Training steps them through EnvPool, which simulates in C++; evaluation and rendering go through gymnasium.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import Any

import gymnasium

from milozero.environments import registered
from milozero.environments.pool import Pool, has_task, same_spaces

logger = logging.getLogger(__name__)
PACKAGES = ("mujoco", "gymnasium", "envpool")
INSTALL = "pip install -r requirements.txt"
OPENGL = True

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

# EnvPool leaves contact forces at zero before version 5, as mujoco-py did from MuJoCo 2.0 on; gymnasium does not, and
# these observe them or pay for them. Its Humanoid-v3 also pays for them, which gymnasium's version 4 does not.
POOL_OPTIONS: dict[str, dict[str, Any]] = {
    "Ant-v3": {"post_constraint": True},
    "Humanoid-v3": {"post_constraint": True, "use_contact_force": False},
    "Humanoid-v4": {"post_constraint": True},
    "HumanoidStandup-v2": {"post_constraint": True},
    "HumanoidStandup-v4": {"post_constraint": True},
}


def longest_replay(kwargs: dict[str, Any]) -> int:
    """Return the steps that resuming may have to take again."""
    return 200_000  # ten to twenty seconds


def ids() -> list[str]:
    """Return the ids of gymnasium's MuJoCo tasks that its present bindings can make."""
    known = [env_id for env_id, spec in gymnasium.registry.items() if "mujoco" in str(spec.entry_point)]
    return [env_id for env_id in known if env_id in SAME_TASK or not env_id.endswith(("-v2", "-v3"))]


def claims(env_id: str) -> bool:
    """Take the names of these tasks, with any version or none."""
    plain, _, version = env_id.rpartition("-v")
    name = plain if version.isdigit() else env_id
    return name in {full.rpartition("-v")[0] for full in ids()}


def resolve(env_id: str) -> str:
    """Return the full id: a name without a version means the newest one.

    Raises:
        UserError: where there is no such version, with near ones.
    """
    return registered.resolve(env_id)


def make_env(env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Return one environment, whose camera follows the robot.

    Raises:
        UserError: where the simulator is missing, or the task does not know one of `kwargs`.
    """
    _log_warnings()
    name, switches = SAME_TASK.get(env_id, (env_id, {}))
    env = registered.make_env(env_id, render_mode, kwargs, switches, name)
    if not any(setting.startswith("camera") or setting == "default_camera_config" for setting in kwargs):
        _follow(env)
    return env


def _log_warnings() -> None:
    """Send MuJoCo's warnings to the log: by itself it writes them on the terminal and into the working directory."""
    with contextlib.suppress(ImportError):  # which making the environment reports
        import mujoco

        mujoco.set_mju_user_warning(logger.warning)


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


def make_vector(env_id: str, num_envs: int, like: gymnasium.Env[Any, Any], kwargs: dict[str, Any]) -> Any:
    """Return a vector of `num_envs` environments: EnvPool's, or gymnasium's where `kwargs` ask for another task."""
    if not kwargs and has_task(env_id) and same_spaces(env_id, like):
        return Pool(env_id, POOL_OPTIONS.get(env_id))
    return registered.make_sync_vector(functools.partial(make_env, env_id, None, kwargs), num_envs)
