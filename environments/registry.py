"""Environments by name: vectors of them for training, single ones for evaluation and rendering.

A new suite is one module beside this one, with the names of `milozero.environments.base.Suite`, and one line here.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

from milozero.helpers.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import gymnasium

    from milozero.environments.base import Suite
    from milozero.environments.vector import VectorEnv

# suite → module. An id belongs to the first that claims it; the last one takes everything.
SUITES = {
    "dmc": "milozero.environments.dmc",
    "opensim": "milozero.environments.opensim.suite",
    "mujoco": "milozero.environments.mujoco",
    "gymnasium": "milozero.environments.registered",
}


def get_suite(name: str) -> Suite:
    """Return a suite by its name in `SUITES`."""
    return cast("Suite", importlib.import_module(SUITES[name]))


def suite_for(env_id: str) -> Suite:
    """Return the suite that an id belongs to."""
    return next(get_suite(name) for name in SUITES if get_suite(name).claims(env_id))


def ids() -> list[str]:
    """Return the full ids of all suites, each once."""
    return list(dict.fromkeys(env_id for name in SUITES for env_id in get_suite(name).ids()))


def versions(env_id: str) -> dict[str, str]:
    """Return the versions of what an environment's numbers depend on, of those that are installed."""
    return {f"{name}_version": v for name, v in installed("torch", "numpy", *suite_for(env_id).PACKAGES).items()}


def installed(*packages: str) -> dict[str, str]:
    """Return distribution → version of those that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def resolve(env_id: str) -> str:
    """Return the full id of an environment: ``Hopper`` is the newest version of that task.

    Raises:
        UserError: where there is no such environment, with near names.
    """
    return suite_for(env_id).resolve(env_id)


def check_name(env_id: str) -> None:
    """Refuse the name of no environment there is, with or without a version, be its simulator installed or not.

    An id ``module:Id`` is taken as it is: nothing is imported.

    Raises:
        UserError: with near names.
    """
    if ":" in env_id and suite_for(env_id) is get_suite("gymnasium"):
        return
    known = set(ids())
    known |= {full.rpartition("-v")[0] for full in known}
    if env_id not in known:
        raise UserError(f"no environment '{env_id}'{did_you_mean(env_id, known)}")


def make_env(
    env_id: str, render_mode: str | None = None, kwargs: Mapping[str, Any] | None = None
) -> gymnasium.Env[Any, Any]:
    """Return one environment with gymnasium's API and a flat observation vector.

    Args:
        env_id: a full id.
        render_mode: ``rgb_array``, ``human`` or None.
        kwargs: what is to differ from the task's defaults.

    Raises:
        UserError: where it cannot be made, or its spaces are not supported.
    """
    from milozero.environments.vector import check_spaces

    its = suite_for(env_id)
    try:
        env = its.make_env(env_id, render_mode, dict(kwargs or {}))
    except ModuleNotFoundError as error:
        raise UserError(f"{env_id} needs {error.name or error}; {its.INSTALL}") from None
    check_spaces(env_id, env.observation_space, env.action_space)
    return env


def make_vector_env(env_id: str, num_envs: int, kwargs: Mapping[str, Any] | None = None) -> VectorEnv:
    """Return one worker's `num_envs` environments; their seeds come with each reset.

    Raises:
        UserError: where it cannot be made, its spaces are not supported, or it does not keep to them.
    """
    from milozero.environments.vector import VectorEnv, check_first

    one = make_env(env_id, None, kwargs)
    check_first(env_id, one, bool(kwargs))
    env = suite_for(env_id).make_vector(env_id, num_envs, one, dict(kwargs or {}))
    one.close()
    observation_space: Any = one.observation_space
    action_space: Any = one.action_space
    return VectorEnv(env, observation_space, action_space, num_envs)
