"""Every environment that gymnasium registers and no other suite has, and what a user's module adds.

Training steps them through EnvPool where it has the same task; evaluation and rendering go through gymnasium.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.envs import registration

from milozero.environments.pool import Pool, has_task, same_spaces
from milozero.environments.vector import check_spaces
from milozero.helpers.errors import UserError, did_you_mean

PACKAGES: tuple[str, ...] = ("gymnasium", "envpool")
INSTALL = "pip install -r requirements.txt"
OPENGL = False

# Where EnvPool 1.2.5 is another task than gymnasium 1.4: tests/integration/test_simulator_parity.py compares them.
LEFT_TO_GYMNASIUM = {"Pendulum-v1": "the angle takes the speed before it is cut to 8 rad/s"}


def longest_replay(kwargs: dict[str, Any]) -> int:
    """Return the steps that resuming may have to take again."""
    return 200_000


def claims(env_id: str) -> bool:
    """Take everything: this suite is asked last."""
    return True


def ids() -> list[str]:
    """Return what is registered now, by whoever did."""
    return list(gymnasium.registry)


def resolve(env_id: str) -> str:
    """Return the full id: a name without a version means the newest one, ``module:Id`` imports the module first.

    Raises:
        UserError: where no such environment is registered, with near names.
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        before = set(gymnasium.registry)
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # whatever a user's module raises
            raise UserError(
                f"cannot import '{module}' of --env_id={env_id}: {type(error).__name__}: {error}"
            ) from None
    if name in gymnasium.registry:
        return env_id
    newest = registration.find_highest_version(*registration.parse_env_id(name)[:2]) if _is_name(name) else None
    plain, _, version = name.rpartition("-v")
    if newest is not None and not (plain and version.isdigit()):
        return f"{env_id}-v{newest}"
    if colon and (own := sorted(set(gymnasium.registry) - before)):
        raise UserError(f"no environment '{env_id}'; '{module}' registers {', '.join(own)}")
    from milozero import environments

    plain_names = {spec.name for spec in gymnasium.registry.values()}
    hint = did_you_mean(name, plain_names | set(environments.ids())) or "; --task=list_envs lists them"
    raise UserError(f"no environment '{env_id}'{hint}")


def _is_name(name: str) -> bool:
    try:
        registration.parse_env_id(name)
    except gymnasium.error.Error:
        return False
    return True


def make_env(
    env_id: str,
    render_mode: str | None,
    kwargs: dict[str, Any],
    switches: dict[str, Any] | None = None,
    name: str = "",
) -> gymnasium.Env[Any, Any]:
    """Return one environment with flat observations.

    Args:
        env_id: a full id.
        render_mode: ``rgb_array``, ``human`` or None.
        kwargs: what the user wants different; an error while there are any is put down to them.
        switches: what else it is made with, where `kwargs` do not say otherwise.
        name: what gymnasium knows it by; empty where that is the id.

    Raises:
        UserError: where the simulator it needs is not installed, or it does not know one of `kwargs`.
    """
    mode = {} if render_mode is None else {"render_mode": render_mode}  # not every environment knows the word
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "out of date, consider v5": the user named the version
            env = gymnasium.make(name or env_id, **mode, **((switches or {}) | kwargs))  # type: ignore[arg-type]
    except (ImportError, gymnasium.error.Error) as error:
        raise UserError(f"cannot make {env_id}: {' '.join(str(error).split())}") from None
    except UserError:
        raise
    except Exception as error:  # whatever its class raises
        reason = " ".join(str(error).split())
        if kwargs:
            raise UserError(f"{env_id} does not take --env_kwargs={kwargs}: {reason}") from None
        if any(word in reason for word in ("missing", "must inherit", "must specify")):
            raise UserError(f"cannot make {env_id}: {reason}") from None  # an argument, gymnasium's class, a space
        if render_mode is not None and "render_mode" in reason:
            raise _not_drawn(env_id, render_mode) from None
        raise
    if render_mode is not None and not {render_mode, "rgb_array"} & set(env.metadata.get("render_modes") or ()):
        env.close()  # gymnasium draws windows itself where there are pictures
        raise _not_drawn(env_id, render_mode)
    check_spaces(env_id, env.observation_space, env.action_space)
    if not isinstance(env.observation_space, spaces.Box):
        env = gymnasium.wrappers.FlattenObservation(env)
    return env


def _not_drawn(env_id: str, render_mode: str) -> UserError:
    wanted = f'metadata = {{"render_modes": ["{render_mode}"]}}, __init__(self, render_mode=None) and render()'
    return UserError(f"{env_id} cannot be rendered: its class needs {wanted}")


def make_vector(env_id: str, num_envs: int, like: gymnasium.Env[Any, Any], kwargs: dict[str, Any]) -> Any:
    """Return a vector of `num_envs` environments: EnvPool's where they are the same as `like`."""
    if not kwargs and env_id not in LEFT_TO_GYMNASIUM and has_task(env_id) and same_spaces(env_id, like):
        return Pool(env_id)
    return make_sync_vector(functools.partial(make_env, env_id, None, kwargs), num_envs)


def make_sync_vector(make: Callable[[], gymnasium.Env[Any, Any]], num_envs: int) -> gymnasium.vector.SyncVectorEnv:
    """Return a vector that steps its environments one after another; workers are the parallel unit."""
    mode = gymnasium.vector.AutoresetMode.NEXT_STEP
    return gymnasium.vector.SyncVectorEnv([make] * num_envs, autoreset_mode=mode)
