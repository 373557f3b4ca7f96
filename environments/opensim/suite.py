"""Musculoskeletal OpenSim models (https://opensim.stanford.edu).

These are the tasks published with osim-rl, reimplemented for Gymnasium with osim-rl's model files. Importing this
module registers the ids with Gymnasium; it requires neither OpenSim nor osim-rl.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium

from milozero.environments import registered
from milozero.environments.base import Vector
from milozero.environments.opensim.installation import INSTALL as INSTALL
from milozero.environments.opensim.installation import find_problem
from milozero.helpers.errors import UserError, did_you_mean

PACKAGES = ("opensim", "osim-rl")
OPENGL = False
CHECKS_KWARGS = True
MAX_REPLAY_CONTROL_STEPS = 30_000  # 2 to 5 minutes

# id → (entry point, control steps in an episode)
TASKS = {
    "OsimArm2D-v0": ("milozero.environments.opensim.arm:Arm2D", 200),
    "OsimL2Run-v0": ("milozero.environments.opensim.run:L2Run", 1000),
    "OsimProsthetics-v0": ("milozero.environments.opensim.prosthetics:ProstheticsRound1", 300),
    "OsimProsthetics-v1": ("milozero.environments.opensim.prosthetics:ProstheticsRound2", 1000),
    "OsimWalkAround2D-v0": ("milozero.environments.opensim.walk_around:WalkAround2D", 2500),
    "OsimWalkAround-v0": ("milozero.environments.opensim.walk_around:WalkAround", 2500),
}

for _env_id, (_entry_point, _max_steps) in TASKS.items():
    if _env_id not in gymnasium.registry:
        gymnasium.register(_env_id, _entry_point, max_episode_steps=_max_steps)


def max_replay_steps(kwargs: dict[str, Any]) -> int:
    """Return the maximum number of steps that a resumed worker may have to repeat."""
    return max(MAX_REPLAY_CONTROL_STEPS // _get_frame_skip(kwargs), 1)


def _get_frame_skip(kwargs: dict[str, Any]) -> int:
    frame_skip = kwargs.get("frame_skip", 1)
    return frame_skip if isinstance(frame_skip, int) and frame_skip > 0 else 1  # the environment rejects other values


def claims(env_id: str) -> bool:
    """Claim ids that start with ``Osim``, except for a user's module."""
    return env_id.startswith("Osim") and ":" not in env_id


def list_env_ids() -> list[str]:
    """Return the ids of all tasks, even if OpenSim is not installed."""
    return list(TASKS)


def resolve(env_id: str) -> str:
    """Return the full id: the newest version if none is given."""
    newest = {full.rpartition("-v")[0]: full for full in sorted(TASKS)}  # later versions overwrite earlier ones
    full = newest.get(env_id, env_id)
    if full not in TASKS:
        raise UserError(f"no environment '{env_id}'{did_you_mean(env_id, [*newest, *TASKS])}")
    return full


def make_env(env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Return one environment."""
    if problem := find_problem():
        raise UserError(f"{env_id}: {problem}")
    max_steps = math.ceil(TASKS[env_id][1] / _get_frame_skip(kwargs))
    return registered.make_env(env_id, render_mode, kwargs, max_episode_steps=max_steps)


def make_vector(
    env_id: str, num_envs: int, single_env: gymnasium.Env[Any, Any], kwargs: dict[str, Any]
) -> Vector | None:
    """Return None: OpenSim does not benefit from threads."""
