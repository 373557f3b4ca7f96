"""Environments by name: vectors of them for training, single ones for evaluation and rendering.

`FAMILIES` lists the modules that know environments; each has ``resolve``, ``make_env`` and ``make_vector``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium

    from environments.vector import VectorEnv

# prefix of the id → module; the empty prefix takes what no other family claims
FAMILIES = {"": "environments.registered"}


def _family(env_id: str) -> Any:
    prefix = max((p for p in FAMILIES if env_id.startswith(p)), key=len)
    return importlib.import_module(FAMILIES[prefix])


def resolve(env_id: str) -> str:
    """Return the full id of an environment: ``Hopper`` is the newest version of that task.

    Raises:
        UserError: where there is no such environment, with near names.
    """
    return str(_family(env_id).resolve(env_id))


def make_env(env_id: str, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """Return one environment with gymnasium's API and a flat observation vector.

    Raises:
        UserError: where it cannot be made, or its spaces are not supported.
    """
    from environments.vector import check_spaces

    env: gymnasium.Env[Any, Any] = _family(env_id).make_env(env_id, render_mode)
    check_spaces(env_id, env.observation_space, env.action_space)
    return env


def make_vector_env(env_id: str, num_envs: int) -> VectorEnv:
    """Return one worker's `num_envs` environments; their seeds come with each reset.

    Raises:
        UserError: where it cannot be made, or its spaces are not supported.
    """
    from environments.vector import VectorEnv

    one = make_env(env_id)
    env = _family(env_id).make_vector(env_id, num_envs, one)
    one.close()
    observation_space: Any = one.observation_space
    action_space: Any = one.action_space
    return VectorEnv(env, observation_space, action_space, num_envs)
