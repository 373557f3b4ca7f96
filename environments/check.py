"""Check a user's environment before training: errors end the run, other problems are warnings."""

from __future__ import annotations

import contextlib
import inspect
import re
import time
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import passive_env_checker

from milozero.environments.actions import describe_space
from milozero.environments.running_statistics import find_running_statistics, read_moments
from milozero.environments.standard_env import FLAGS, NUMBERS, StandardEnv, describe, is_provided
from milozero.helpers.errors import RunError, UserError, describe_exception

NUM_STEPS = 10
SLOW_S = 5.0  # an environment whose first steps take longer is not checked further
# Gymnasium's findings that contain these are skipped: infos are ignored, a NaN ends the run anyway, and the functions
# below explain the others better.
SKIPPED = (
    "The obs returned",
    "Casting input",
    "`info`",
    "second element",
    "NaN",
    "inf value",
    "signal to be",
    "reward",
)
RETURNED = {"reset": "observation, info", "step": "observation, reward, terminated, truncated, info"}

Steps = list[tuple[Any, ...]]  # (observation,) of the reset, then (observation, reward, terminated, truncated)


def check_env(env_id: str, env: gymnasium.Env[Any, Any]) -> list[str]:
    """Reset and step an environment from `registry.make_env`, unless Gymnasium or MiloZero provides it.

    Returns:
        One line for each problem that may disturb training, with its fix.

    Raises:
        UserError: if the environment cannot be trained in.
    """
    if is_provided(env):
        return []
    start, moments = time.monotonic(), read_moments(env)
    first = _play(env_id, env)
    findings = find_running_statistics(env, moments)
    if time.monotonic() < start + SLOW_S:
        if not findings and not (env.spec and env.spec.nondeterministic):
            findings += _compare(first, _play(env_id, env))
        findings += _run_gymnasium_checks(env)
    return [f"{env_id}: {finding}" for finding in dict.fromkeys(findings)]


def _play(env_id: str, env: gymnasium.Env[Any, Any]) -> Steps:
    """Play the first steps of an episode, always with the same seed and actions; raise a UserError if one fails."""
    deadline, method = time.monotonic() + SLOW_S, "reset"
    env.action_space.seed(0)
    try:
        obs, _ = env.reset(seed=0)
        steps: Steps = [(obs,)]
        method = "step"
        while len(steps) <= NUM_STEPS and not any(steps[-1][2:]) and time.monotonic() < deadline:
            steps.append(env.step(env.action_space.sample())[:4])
    except RunError as error:
        raise UserError(f"{env_id}: {error}") from None
    except Exception as error:  # environments raise arbitrary exceptions
        problem = f"{describe_exception(error)}{_suggest_fix(method, error)}"
        raise UserError(f"{env_id}: {method}() failed: {problem}") from None
    return steps


def _suggest_fix(method: str, error: Exception) -> str:
    if isinstance(error, ValueError | TypeError) and "unpack" in str(error):
        return f"; {method}() must return ({RETURNED[method]})"
    if method == "reset" and isinstance(error, TypeError) and "keyword argument" in str(error):
        return "; define reset(self, *, seed=None, options=None)"
    return ""


def _compare(first: Steps, second: Steps) -> list[str]:
    """Return a finding if the second episode, with the seed and the actions of the first, differs from it."""
    names = ("observation", "reward", "terminated", "truncated")
    for step, pair in enumerate(zip(first, second, strict=False)):
        for name, one, other in zip(names, *pair, strict=False):
            if not np.array_equal(one, other, equal_nan=True):
                return [
                    f"not reproducible: the same seed and actions give a different {name} in step {step}; draw from "
                    "self.np_random, which super().reset(seed=seed) seeds, and carry no state from one episode to "
                    "the next, e.g. running statistics, because checkpoints do not contain it"
                ]
    return []


def _run_gymnasium_checks(env: gymnasium.Env[Any, Any]) -> list[str]:
    """Return the findings of Gymnasium's checker, and observations that do not match their space."""
    assert isinstance(env, StandardEnv)
    raw = env.env
    while isinstance(raw, gymnasium.wrappers.FlattenObservation):
        raw = raw.env  # as the user wrote it
    problems = _check_seed_default(raw)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            passive_env_checker.check_action_space(raw.action_space)
            passive_env_checker.check_observation_space(raw.observation_space)
            first, _ = passive_env_checker.env_reset_passive_checker(raw, seed=0)
            obs, *step, _ = passive_env_checker.env_step_passive_checker(raw, raw.action_space.sample())
            space = raw.observation_space
            problems += [
                _describe_obs_problem(space, first) or _describe_obs_problem(space, obs),
                *_check_types(*step),
            ]
        except AssertionError as error:
            problems.append(_format_finding(str(error)))
        except Exception as error:  # environments raise arbitrary exceptions
            problems.append(f"the second episode failed: {describe_exception(error)}")
    texts = [str(warning.message) for warning in caught]
    return list(filter(None, [*problems, *(_format_finding(text) for text in texts if "WARN: " in text)]))


def _check_seed_default(env: gymnasium.Env[Any, Any]) -> list[str]:
    with contextlib.suppress(TypeError, ValueError):  # it has no signature
        seed = inspect.signature(env.unwrapped.reset).parameters.get("seed")
        if seed is not None and seed.default not in (None, inspect.Parameter.empty):
            return [f"reset() has the default seed {seed.default}, which repeats one episode; make it None"]
    return []


def _check_types(reward: Any, terminated: Any, truncated: Any) -> list[str]:
    """Return a finding for a reward or flags of the wrong type, with the fix."""
    found = []
    if not isinstance(reward, NUMBERS):
        found.append(f"the reward is {describe(reward)} and is converted to a float; return float(reward)")
    if wrong := [type(flag).__name__ for flag in (terminated, truncated) if not isinstance(flag, FLAGS)]:
        fix = "return bool(terminated), bool(truncated)"
        found.append(f"terminated or truncated is {wrong[0]}, not bool, and is converted; {fix}")
    return found


def _format_finding(text: str) -> str:
    """Return a finding of Gymnasium on one line; empty if it does not matter here."""
    if any(part in text for part in SKIPPED):
        return ""
    return " ".join(re.sub(r"\x1b\[[\d;]*m|WARN: |`", "", text).split())


def _describe_obs_problem(space: spaces.Space[Any], obs: Any) -> str:
    """Return how an observation differs from its space, with the fix; empty if it does not."""
    if not isinstance(space, spaces.Box):
        found = describe_space(space)
        wrong = f"observations are not in observation_space; correct its bounds or dtype: {found}"
        return "" if space.contains(obs) else wrong
    name = type(obs).__name__
    if not isinstance(obs, np.ndarray | np.generic):
        return f"observations are {name}, not arrays, and are converted; return np.array(..., np.{space.dtype})"
    if not np.can_cast(obs.dtype, space.dtype):
        return (
            f"observations are {obs.dtype}, but observation_space is {space.dtype}, so they are converted; return "
            f"observation.astype(np.{space.dtype}), or declare the space with dtype=np.{obs.dtype}"
        )
    array: np.ndarray = np.asarray(obs)
    for index in np.argwhere((array < space.low) | (array > space.high))[:1]:
        where = tuple(index.tolist())
        value, low, high = array[where], space.low[where], space.high[where]
        bounds = f"outside its bounds [{low:g}, {high:g}]"
        return f"observation{list(where)} is {value:g}, {bounds}; widen observation_space"
    return ""
