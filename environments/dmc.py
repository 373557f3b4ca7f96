"""DeepMind Control Suite: ``dmc:cheetah-run``, also ``dm_control/cheetah-run-v0``.

EnvPool steps the tasks in training if its port is equivalent; dm_control steps the others, evaluates and renders.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from milozero.environments import registered
from milozero.environments.base import Vector
from milozero.environments.dm_control_env import INSTALL, DMControlEnv, is_installed
from milozero.environments.pool import EnvPoolVector, has_same_spaces, has_task
from milozero.helpers.errors import UserError, did_you_mean

PACKAGES = ("dm_control", "mujoco", "gymnasium", "envpool")
OPENGL = True
CHECKS_KWARGS = True
max_replay_steps = registered.max_replay_steps  # 1 to 2 minutes; 4 for dogs

PREFIXES = ("dmc:", "dm_control/")

# domain → tasks; a copy of dm_control.suite.ALL_TASKS, which takes a second to import
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

# id → how EnvPool 1.2.5, built with MuJoCo 3.6, differs from dm_control 1.0.50, measured by benchmarks/dmc_parity.py
ENVPOOL_MISMATCHES = {
    "dmc:ball_in_cup-catch": "the reward uses the size of a cup geom instead of the ball's",
    "dmc:cartpole-two_poles": "the upper pole starts within 0.01 rad, not 0.1",
    "dmc:cartpole-three_poles": "the upper poles start within 0.01 rad, not 0.1",
    "dmc:dog-fetch": "contact points between paws and target differ in its MuJoCo version",
    "dmc:finger-spin": "contacts with the spinner are 60 times softer in its MuJoCo version",
    "dmc:finger-turn_easy": "contacts with the spinner are 60 times softer in its MuJoCo version",
    "dmc:finger-turn_hard": "contacts with the spinner are 60 times softer in its MuJoCo version",
    "dmc:lqr-lqr_2_1": "the springs and the initial state use the same random numbers",
    "dmc:lqr-lqr_6_2": "the springs and the initial state use the same random numbers",
    "dmc:quadruped-escape": "the bumps of the terrain are not smoothed",
    "dmc:stacker-stack_2": "contact points between boxes differ in its MuJoCo version",
    "dmc:stacker-stack_4": "contact points between boxes differ in its MuJoCo version",
}


def list_env_ids() -> list[str]:
    """Return the full ids of the suite's tasks, even if dm_control is not installed."""
    return [f"dmc:{domain}-{task}" for domain, tasks in TASKS.items() for task in tasks]


def claims(env_id: str) -> bool:
    """Claim ids that start with ``dmc:`` or ``dm_control/``."""
    return env_id.startswith(PREFIXES)


def resolve(env_id: str) -> str:
    """Return the full id, ``dmc:domain-task`` with dm_control's names.

    Raises:
        UserError: if the task does not exist (the message suggests similar ids) or dm_control is not installed.
    """
    prefix = next(prefix for prefix in PREFIXES if env_id.startswith(prefix))
    full = f"dmc:{env_id.removeprefix(prefix).removesuffix('-v0')}"
    if full not in list_env_ids():
        hint = did_you_mean(full, list_env_ids()) or "; ids have the form dmc:domain-task, e.g. dmc:cheetah-run"
        raise UserError(f"no environment '{env_id}'{hint}")
    if not is_installed():
        raise UserError(f"{env_id} requires dm_control ({INSTALL})")
    return full


def make_env(env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Return one dm_control task, truncated at its time limit.

    `kwargs` are ``time_limit`` and ``control_timestep`` in seconds, ``legacy_step``, and the task's own arguments.

    Raises:
        UserError: if dm_control is not installed or the task rejects `kwargs`.
    """
    env = DMControlEnv(env_id, render_mode, kwargs)
    assert env.spec is not None
    assert env.spec.max_episode_steps is not None
    return gymnasium.wrappers.TimeLimit(env, env.spec.max_episode_steps)


def make_vector(
    env_id: str, num_envs: int, single_env: gymnasium.Env[Any, Any], kwargs: dict[str, Any]
) -> Vector | None:
    """Return EnvPool's vector if its task is equivalent to `single_env`, otherwise None."""
    name, parts = to_envpool_name(env_id), single_env.unwrapped.parts  # type: ignore[attr-defined]
    use_envpool = not kwargs and env_id not in ENVPOOL_MISMATCHES
    if use_envpool and has_task(name) and has_same_spaces(name, single_env, parts):
        return EnvPoolVector(name, keys=list(parts))
    return None


def to_envpool_name(env_id: str) -> str:
    """Return EnvPool's name of a task: ``CheetahRun-v1`` for ``dmc:cheetah-run``."""
    words = env_id.removeprefix("dmc:").replace("-", "_").split("_")
    return "".join(word[:1].upper() + word[1:] for word in words) + "-v1"
