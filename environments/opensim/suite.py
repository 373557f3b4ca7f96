"""Musculoskeletal models of OpenSim (https://opensim.stanford.edu), as environments.

The tasks are those that were published with osim-rl, written anew for gymnasium; the models' files are osim-rl's.
Importing this package registers the ids with gymnasium and needs neither.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import gymnasium

from milozero.environments import registered
from milozero.environments.opensim.simulator import INSTALL, missing
from milozero.helpers.errors import UserError, did_you_mean

__all__ = ["INSTALL", "OPENGL", "PACKAGES", "claims", "ids", "longest_replay", "make_env", "make_vector", "resolve"]

PACKAGES = ("opensim", "osim-rl")
OPENGL = False
LONGEST_REPLAY = 30_000  # control steps: two to five minutes

# id → where its class is, and the control steps of an episode, where 1 frame is 1 control step
TASKS = {
    "OsimArm2D-v0": ("milozero.environments.opensim.arm:Arm2D", 200),
    "OsimL2Run-v0": ("milozero.environments.opensim.run:L2Run", 1000),
    "OsimProsthetics-v0": ("milozero.environments.opensim.prosthetics:ProstheticsRound1", 300),
    "OsimProsthetics-v1": ("milozero.environments.opensim.prosthetics:ProstheticsRound2", 1000),
    "OsimWalkAround2D-v0": ("milozero.environments.opensim.walk_around:WalkAround2D", 2500),
    "OsimWalkAround-v0": ("milozero.environments.opensim.walk_around:WalkAround", 2500),
}

for _name, (_entry, _steps) in TASKS.items():
    if _name not in gymnasium.registry:
        gymnasium.register(_name, _entry, max_episode_steps=_steps)


def longest_replay(kwargs: dict[str, Any]) -> int:
    """Return the steps that resuming may have to take again."""
    return max(LONGEST_REPLAY // _frame_skip(kwargs), 1)


def _frame_skip(kwargs: dict[str, Any]) -> int:
    skip = kwargs.get("frame_skip", 1)
    return skip if isinstance(skip, int) and skip > 0 else 1  # the environment itself refuses others


def claims(env_id: str) -> bool:
    """Take the names that begin with Osim, but for those of a user's module."""
    return env_id.startswith("Osim") and ":" not in env_id


def ids() -> list[str]:
    """Return the ids of all tasks, whether OpenSim is installed or not."""
    return list(TASKS)


def resolve(env_id: str) -> str:
    """Return the full id: a name without a version means the newest one.

    Raises:
        UserError: where there is no such task, with near names.
    """
    plain = {full.rpartition("-v")[0]: full for full in sorted(TASKS)}  # the newest version comes last
    full = plain.get(env_id, env_id)
    if full not in TASKS:
        raise UserError(f"no environment '{env_id}'{did_you_mean(env_id, [*plain, *TASKS])}")
    return full


def make_env(env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Return one environment.

    Raises:
        UserError: where OpenSim or its models are missing, or the task does not know one of `kwargs`.
    """
    if problem := missing():
        raise UserError(f"{env_id}: {problem}")
    steps = math.ceil(TASKS[env_id][1] / _frame_skip(kwargs))
    return registered.make_env(env_id, render_mode, kwargs, {"max_episode_steps": steps})


def make_vector(env_id: str, num_envs: int, like: gymnasium.Env[Any, Any], kwargs: dict[str, Any]) -> Any:
    """Return a vector of `num_envs` environments in this process; OpenSim gains nothing from threads."""
    return registered.make_sync_vector(functools.partial(make_env, env_id, None, kwargs), num_envs)
