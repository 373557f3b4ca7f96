"""Find wrappers that normalize with running statistics, which checkpoints do not contain."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np

MAX_DEPTH = 3  # wrapper, function, normalizer, moments
# Words in the names that common libraries give to running statistics.
MEANS, SPREADS = {"mean", "mu"}, {"var", "std", "variance", "m2"}

Moments = dict[int, list[np.ndarray]]  # position of a wrapper in the chain → its means and spreads


def read_moments(env: gymnasium.Env[Any, Any]) -> Moments:
    """Return copies of the moments that an environment's wrappers, and the environment itself, keep."""
    return {
        position: [
            np.array(value) for attributes in _walk(layer, MAX_DEPTH, set()) for value in _find_moments(attributes)
        ]
        for position, layer in enumerate(_unwrap(env))
    }


def find_running_statistics(env: gymnasium.Env[Any, Any], before: Moments) -> list[str]:
    """Return a warning for each wrapper whose moments have changed since `read_moments`, before an episode.

    Moments that do not change are constants.
    """
    after, found = read_moments(env), []
    for position, layer in enumerate(_unwrap(env)):
        pairs = zip(before[position], after[position], strict=False)
        if any(not np.array_equal(old, new, equal_nan=True) for old, new in pairs):
            found.append(
                f"{type(layer).__name__} normalizes with running statistics, which checkpoints do not contain, so "
                "evaluating a checkpoint gives different returns than training did; remove it: "
                "--normalize_observations and --normalize_rewards, on by default, do the same"
            )
    return found


def _unwrap(env: gymnasium.Env[Any, Any]) -> Iterator[gymnasium.Env[Any, Any]]:
    """Yield an environment's wrappers, from the outermost to the innermost, and the environment itself."""
    yield env
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        yield env


def _walk(value: Any, depth: int, seen: set[int]) -> Iterator[Mapping[str, Any]]:
    """Yield the attributes of an object and of the objects that it refers to."""
    seen.add(id(value))
    attributes = _get_attributes(value)
    yield attributes
    for child in attributes.values() if depth > 0 else ():
        if id(child) not in seen and not isinstance(child, gymnasium.Env | gymnasium.Space | types.ModuleType | type):
            yield from _walk(child, depth - 1, seen)


def _get_attributes(value: Any) -> Mapping[str, Any]:
    """Return name → value of an object's attributes, a function's variables or a dictionary's items."""
    if isinstance(value, types.MethodType):
        return {"self": value.__self__}
    if isinstance(value, types.FunctionType):
        attributes = {}
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # it is empty
                attributes[name] = cell.cell_contents
        return attributes
    if isinstance(value, dict):
        return {name: child for name, child in value.items() if isinstance(name, str)}
    own = getattr(value, "__dict__", None)
    return dict(own) if isinstance(own, Mapping) else {}  # a copy: the environment may have threads


def _find_moments(attributes: Mapping[str, Any]) -> list[Any]:
    """Return the means and the measures of spread among numbers and arrays, if there are both.

    If all rewards are 0, the mean of a normalizer does not change, but its variance does.
    """
    numbers = {name: v for name, v in attributes.items() if isinstance(v, int | float | np.ndarray | np.generic)}
    words = {name: set(name.lower().split("_")) for name in numbers}
    if not all(any(kind & each for each in words.values()) for kind in (MEANS, SPREADS)):
        return []
    return [value for name, value in numbers.items() if (MEANS | SPREADS) & words[name]]
