"""Other environments registered with Gymnasium, by Gymnasium itself or by a user's module.

EnvPool steps them in training if it has an equivalent task; Gymnasium evaluates and renders them.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.envs import registration

from milozero.environments import modules, registry
from milozero.environments.base import Vector
from milozero.environments.pool import EnvPoolVector, has_same_spaces, has_task
from milozero.environments.standard_env import is_provided
from milozero.environments.vector import check_spaces, close_env, flatten_observations
from milozero.helpers.errors import UserError, did_you_mean

PACKAGES: tuple[str, ...] = ("gymnasium", "envpool")
INSTALL = "pip install -r requirements.txt"
OPENGL = False
CHECKS_KWARGS = False

# id → how EnvPool 1.2.5 differs from Gymnasium 1.4, measured by tests/integration/test_simulator_parity.py
ENVPOOL_MISMATCHES = {"Pendulum-v1": "the angle is integrated with the speed before clipping to 8 rad/s"}


def max_replay_steps(kwargs: dict[str, Any]) -> int:
    """Return the maximum number of steps that a resumed worker may have to repeat."""
    return 200_000


def claims(env_id: str) -> bool:
    """Claim every id: this suite is the last in `SUITES`."""
    return True


def list_env_ids() -> list[str]:
    """Return all registered ids."""
    return list(gymnasium.registry)


def resolve(env_id: str) -> str:
    """Return the full id: the newest version if none is given; the module of ``module:Id`` must have been imported.

    Raises:
        UserError: if the module has not been imported or the id is not registered; the message suggests similar ids.
    """
    name, module = modules.remove_module(env_id), env_id.rpartition(":")[0]
    if name in gymnasium.registry:
        return env_id
    newest = None
    with contextlib.suppress(gymnasium.error.Error):  # the name is malformed
        newest = registration.find_highest_version(*registration.parse_env_id(name)[:2])
    base_name, _, version = name.rpartition("-v")
    if newest is not None and not (base_name and version.isdigit()):
        return f"{env_id}-v{newest}"
    if new_ids := modules.new_ids.get(module):
        raise UserError(f"no environment '{env_id}'; '{module}' registers {', '.join(new_ids)}")
    base_names = {spec.name for spec in gymnasium.registry.values()}
    hint = did_you_mean(name, base_names | set(registry.list_env_ids())) or (
        "; --task=list_envs lists all ids; your own are named module:Env-v0, with module.py on the PYTHONPATH"
    )
    raise UserError(f"no environment '{env_id}'{hint}")


def make_env(
    env_id: str, render_mode: str | None, kwargs: dict[str, Any], name: str = "", **default_kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """Return one environment with flat observations.

    The user's `kwargs` take precedence over `default_kwargs`; if given, errors are attributed to them. `name` is
    Gymnasium's id if it differs from `env_id`.

    Raises:
        UserError: if the simulator is not installed, or the environment rejects `kwargs` or cannot be rendered.
    """
    name = modules.remove_module(name or env_id)  # Gymnasium would import the module
    mode = {} if render_mode is None else {"render_mode": render_mode}  # not every class takes the argument
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "out of date, consider v5": the user chose the version
            # Without its checker, which rejects infos that nothing uses; `milozero.environments.check` replaces it.
            options = {"disable_env_checker": True} | mode | default_kwargs | kwargs
            env = gymnasium.make(name, **options)
    except (ImportError, gymnasium.error.Error) as error:
        raise UserError(f"cannot make {env_id}: {' '.join(str(error).split())}") from None
    except UserError:
        raise
    except Exception as error:  # environments raise arbitrary exceptions
        reason = " ".join(str(error).split())
        if kwargs:
            raise UserError(f"{env_id} does not accept --env_kwargs={kwargs}: {reason}") from None
        problems = ("missing", "must inherit", "must specify", "observation space", "action space")
        if any(word in reason for word in problems):
            # a missing argument, not a gymnasium.Env, no spaces, or spaces that Gymnasium rejects
            raise UserError(f"cannot make {env_id}: {reason}") from None
        if render_mode is not None and "render_mode" in reason:
            raise _no_rendering(env_id, render_mode) from None
        raise
    if render_mode is not None and not {render_mode, "rgb_array"} & set(env.metadata.get("render_modes") or ()):
        close_env(env)  # with rgb_array, Gymnasium itself opens a window
        raise _no_rendering(env_id, render_mode)
    try:
        _check_has_spaces(env_id, env)
        check_spaces(env_id, env.observation_space, env.action_space)
    except UserError:
        close_env(env)
        raise
    return flatten_observations(env)


def _check_has_spaces(env_id: str, env: gymnasium.Env[Any, Any]) -> None:
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, spaces.Space):
            raise UserError(
                f"cannot make {env_id}: its {name} is {type(space).__name__}, not a gymnasium.spaces.Space"
            )


def _no_rendering(env_id: str, render_mode: str) -> UserError:
    required = f'metadata = {{"render_modes": ["{render_mode}"]}}, __init__(self, render_mode=None) and render()'
    return UserError(f"{env_id} cannot be rendered: its class needs {required}")


def make_vector(
    env_id: str, num_envs: int, single_env: gymnasium.Env[Any, Any], kwargs: dict[str, Any]
) -> Vector | None:
    """Return EnvPool's vector if its task is equivalent to `single_env`, otherwise None."""
    use_envpool = not kwargs and is_provided(single_env) and env_id not in ENVPOOL_MISMATCHES
    if use_envpool and has_task(env_id) and has_same_spaces(env_id, single_env):
        return EnvPoolVector(env_id)
    return None
