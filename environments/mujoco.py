"""Gymnasium's MuJoCo tasks, versions 3 (if equivalent to v4), 4 and 5.

EnvPool steps them in training, in C++; Gymnasium evaluates and renders them.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import gymnasium

from milozero.environments import registered
from milozero.environments.base import Vector
from milozero.environments.pool import EnvPoolVector, has_same_spaces, has_task
from milozero.environments.standard_env import is_provided

logger = logging.getLogger(__name__)
PACKAGES = ("mujoco", "gymnasium", "envpool")
INSTALL = registered.INSTALL
OPENGL = True
CHECKS_KWARGS = False
max_replay_steps = registered.max_replay_steps  # 10 to 20 seconds
resolve = registered.resolve

# Gymnasium dropped the mujoco-py versions; its v4 is the same task on the official bindings.
# id → Gymnasium's id and its arguments
V4_EQUIVALENTS: dict[str, tuple[str, dict[str, Any]]] = {
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

# Before version 5, EnvPool leaves contact forces at zero, like mujoco-py since MuJoCo 2.0. Gymnasium does not, and
# these tasks observe or penalize contact forces. EnvPool's Humanoid-v3 penalizes them, Gymnasium's v4 does not.
ENVPOOL_OPTIONS: dict[str, dict[str, Any]] = {
    "Ant-v3": {"post_constraint": True},
    "Humanoid-v3": {"post_constraint": True, "use_contact_force": False},
    "Humanoid-v4": {"post_constraint": True},
    "HumanoidStandup-v2": {"post_constraint": True},
    "HumanoidStandup-v4": {"post_constraint": True},
}


def list_env_ids() -> list[str]:
    """Return the ids of Gymnasium's MuJoCo tasks that its current bindings support."""
    registered_ids = [env_id for env_id, spec in gymnasium.registry.items() if "mujoco" in str(spec.entry_point)]
    return [env_id for env_id in registered_ids if env_id in V4_EQUIVALENTS or not env_id.endswith(("-v2", "-v3"))]


def claims(env_id: str) -> bool:
    """Claim the names of these tasks, with any version or none."""
    base_name, _, version = env_id.rpartition("-v")
    name = base_name if version.isdigit() else env_id
    return name in {full.rpartition("-v")[0] for full in list_env_ids()}


def make_env(env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Return one environment whose camera follows the robot."""
    _log_warnings()
    name, default_kwargs = V4_EQUIVALENTS.get(env_id, (env_id, {}))
    env = registered.make_env(env_id, render_mode, kwargs, name, **default_kwargs)
    if not any(setting.startswith("camera") or setting == "default_camera_config" for setting in kwargs):
        _track_robot(env)
    return env


def _log_warnings() -> None:
    """Log MuJoCo's warnings; by default it writes them to the terminal and to a file in the working directory."""
    with contextlib.suppress(ImportError):  # `registered.make_env` reports it
        import mujoco

        mujoco.set_mju_user_warning(logger.warning)


def _track_robot(env: gymnasium.Env[Any, Any]) -> None:
    """Keep the robot in the frame: Gymnasium 1.4 uses a fixed camera, which a Hopper leaves quickly."""
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is None:
        return
    import mujoco

    camera = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera < 0:
        return
    if env.render_mode == "human":  # a free camera, which the user can move, not one of the model
        tracking = {"type": mujoco.mjtCamera.mjCAMERA_TRACKING, "trackbodyid": 1}
        renderer.default_cam_config = tracking | (renderer.default_cam_config or {})
    else:
        renderer.camera_id = camera


def make_vector(
    env_id: str, num_envs: int, single_env: gymnasium.Env[Any, Any], kwargs: dict[str, Any]
) -> Vector | None:
    """Return EnvPool's vector, or None if `kwargs` change the task."""
    if not kwargs and is_provided(single_env) and has_task(env_id) and has_same_spaces(env_id, single_env):
        return EnvPoolVector(env_id, ENVPOOL_OPTIONS.get(env_id))
    return None
