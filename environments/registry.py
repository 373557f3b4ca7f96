"""Environments by id: vectors for training, single environments for evaluation and rendering.

To add a suite, add one module with the names of `milozero.environments.base.Suite` and one line to `SUITES`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

from milozero.environments.probe import find_crash
from milozero.helpers.config.values import from_kwargs
from milozero.helpers.errors import UserError, describe_exception, did_you_mean
from milozero.helpers.seeding import preserve_global_rngs

if TYPE_CHECKING:
    import gymnasium

    from milozero.environments.base import Suite, Vector
    from milozero.environments.vector import VectorEnv

# suite → module. The first suite that claims an id gets it; the last one claims everything.
SUITES = {
    "dmc": "milozero.environments.dmc",
    "opensim": "milozero.environments.opensim.suite",
    "mujoco": "milozero.environments.mujoco",
    "gymnasium": "milozero.environments.registered",
}
_survivors: set[str] = set()  # what `_check_survival` has tried without a crash


def get_suite(name: str) -> Suite:
    """Return the suite with this name in `SUITES`."""
    return cast("Suite", importlib.import_module(SUITES[name]))


def choose_renderer() -> None:
    """Make MuJoCo and pygame render off-screen if there is no display. Call this before they are imported.

    Variables that the user has set are kept.
    """
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def find_suite(env_id: str) -> Suite:
    """Return the suite that an id belongs to."""
    return next(get_suite(name) for name in SUITES if get_suite(name).claims(env_id))


def list_env_ids() -> list[str]:
    """Return the full ids of all suites, without duplicates."""
    return list(dict.fromkeys(env_id for name in SUITES for env_id in get_suite(name).list_env_ids()))


def get_versions(env_id: str) -> dict[str, str]:
    """Return the versions of the installed packages that the results of an environment depend on."""
    return {f"{name}_version": v for name, v in find_versions("torch", "numpy", *find_suite(env_id).PACKAGES).items()}


def find_versions(*packages: str) -> dict[str, str]:
    """Return distribution → version of the packages that are installed."""
    versions = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def resolve(env_id: str) -> str:
    """Return the full id of an environment: ``Hopper`` resolves to the newest version of that task.

    Raises:
        UserError: if the environment does not exist; the message suggests similar ids.
    """
    return find_suite(env_id).resolve(env_id)


def import_module(module: str, source: str, data_dir: str) -> None:
    """Import a module that registers environments and that the user named in `source`, a flag with its value.

    Raises:
        UserError: if it cannot be imported, or is in the data folder.
    """
    from milozero.environments import modules  # imports gymnasium

    modules.import_module(module, source, data_dir)


def import_module_of(env_id: str, source: str, data_dir: str) -> None:
    """Import the module of an id ``module:Id`` from the user, if it has one. Raises the errors of `import_module`."""
    module, colon, _ = env_id.rpartition(":")
    if colon and find_suite(env_id) is get_suite("gymnasium"):
        import_module(module, source, data_dir)


def check_env_id(env_id: str) -> None:
    """Check that an environment exists, with or without a version, even if its simulator is not installed.

    An id ``module:Id`` is not checked, because that would import the module.

    Raises:
        UserError: if the environment does not exist; the message suggests similar ids.
    """
    if ":" in env_id and find_suite(env_id) is get_suite("gymnasium"):
        return
    known = set(list_env_ids())
    known |= {full.rpartition("-v")[0] for full in known}
    if env_id not in known:
        raise UserError(f"no environment '{env_id}'{did_you_mean(env_id, known)}")


def make_env(
    env_id: str, render_mode: str | None = None, kwargs: Mapping[str, Any] | None = None
) -> gymnasium.Env[Any, Any]:
    """Return one environment, a `StandardEnv` with a flat observation vector; for the arguments, see `Suite`.

    Raises:
        UserError: if the environment cannot be made, would crash this process, or its spaces are not supported.
    """
    from milozero.environments.standard_env import StandardEnv  # imports gymnasium
    from milozero.environments.vector import check_spaces

    suite = find_suite(env_id)
    try:
        if (kwargs and not suite.CHECKS_KWARGS) or render_mode == "human":
            _check_survival(env_id, render_mode, dict(kwargs or {}))
        env = suite.make_env(env_id, render_mode, dict(kwargs or {}))
    except ModuleNotFoundError as error:
        raise UserError(f"{env_id} requires {error.name or error} ({suite.INSTALL})") from None
    except UserError:
        raise
    except Exception as error:  # environments raise arbitrary exceptions
        problem = _find_renderer_problem() or describe_exception(error)
        raise UserError(f"cannot make {env_id}: {problem}") from None
    check_spaces(env_id, env.observation_space, env.action_space)
    return StandardEnv(env)


def try_out(env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> None:
    """Make, reset, render and close an environment, in a process that may crash."""
    with contextlib.closing(find_suite(env_id).make_env(env_id, render_mode, kwargs)) as env:
        env.reset(seed=0)
        if render_mode is not None:
            env.render()


def _check_survival(env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> None:
    """Check, only once and in a child process, that making, resetting and rendering an environment does not crash."""
    key = f"{env_id} {render_mode} {kwargs}"
    if key in _survivors:
        return
    if crash := find_crash(env_id, render_mode, kwargs):
        windows = "human" in (render_mode, kwargs.get("render_mode"))
        display = f"; a window needs a display, and DISPLAY is '{os.environ.get('DISPLAY', '')}'" if windows else ""
        cause = f"--env_kwargs={from_kwargs(kwargs)}" if kwargs else "--render"
        raise UserError(f"{env_id} crashes the process ({crash}) with {cause}{display}")
    _survivors.add(key)


def _find_renderer_problem() -> str:
    """Return why MuJoCo cannot be imported with the renderer that MUJOCO_GL names; empty if it can."""
    name = os.environ.get("MUJOCO_GL")
    try:
        if name:
            import mujoco  # noqa: F401
    except ModuleNotFoundError:
        return ""
    except Exception as error:  # PyOpenGL and MuJoCo raise various types
        return f"MUJOCO_GL={name}: {' '.join(str(error).split())}; unset MUJOCO_GL, or set it to egl or osmesa"
    return ""


def check_env(env_id: str, env: gymnasium.Env[Any, Any]) -> list[str]:
    """Reset and step a user's environment from `make_env`; raise a UserError if it cannot be trained in.

    Returns:
        One line for each problem that may disturb training, with its fix.
    """
    from milozero.environments import check  # imports gymnasium

    return check.check_env(env_id, env)


def make_vector_env(
    env_id: str,
    num_envs: int,
    kwargs: Mapping[str, Any] | None = None,
    single_env: gymnasium.Env[Any, Any] | None = None,
) -> VectorEnv:
    """Return one worker's `num_envs` environments; `VectorEnv.reset` seeds them.

    Their spaces are those of `single_env`; by default, one is made for this and closed before the others are made.

    Raises:
        UserError: if the environment cannot be made, its spaces are not supported, or its first observation is not
            in its observation space.
    """
    from milozero.environments.vector import (  # imports gymnasium
        VectorEnv,
        check_first_obs,
        close_env,
        get_time_limit,
    )

    suite, env_kwargs = find_suite(env_id), dict(kwargs or {})
    with contextlib.ExitStack() as opened:
        if single_env is None:
            single_env = make_env(env_id, None, kwargs)
            opened.callback(close_env, single_env)
        with preserve_global_rngs():  # constructors may draw from them
            check_first_obs(env_id, single_env, bool(kwargs))
        env = suite.make_vector(env_id, num_envs, single_env, env_kwargs)
        observation_space: Any = single_env.observation_space
        action_space: Any = single_env.action_space
        time_limit = get_time_limit(single_env)
    max_steps = None
    if env is None:  # step the environments one after another: parallelism comes from the workers
        longest = suite.max_replay_steps(env_kwargs)
        if time_limit is None or time_limit > longest:
            max_steps = max(longest // num_envs, 1)
        env = _make_serial_vector(env_id, lambda: suite.make_env(env_id, None, env_kwargs), num_envs, max_steps)
    return VectorEnv(env, observation_space, action_space, num_envs, time_limit, max_steps)


def _make_serial_vector(
    env_id: str, make: Callable[[], gymnasium.Env[Any, Any]], num_envs: int, max_steps: int | None
) -> Vector:
    """Return `num_envs` environments stepped one after another; if one cannot be made, the others are closed."""
    from milozero.environments.serial import SerialVector
    from milozero.environments.standard_env import StandardEnv
    from milozero.environments.vector import close_env

    envs: list[StandardEnv] = []
    try:
        for _ in range(num_envs):
            envs.append(StandardEnv(make()))
    except BaseException as error:
        for env in envs:
            close_env(env)
        if not isinstance(error, Exception):
            raise
        if not envs:  # the environment that was made and closed before may still occupy a port
            raise UserError(f"cannot make {env_id} again: {describe_exception(error)}") from None
        reason = " ".join(str(error).split())
        raise UserError(
            f"{env_id}: only {len(envs)} of --num_envs={num_envs} environments can exist at a time: {reason}"
        ) from None
    spaces = [(env.observation_space, env.action_space) for env in envs]
    if any(pair != spaces[0] for pair in spaces):
        for env in envs:
            close_env(env)
        raise UserError(f"{env_id}: its spaces differ between instances; all must have the same spaces")
    return SerialVector(envs, max_steps)
