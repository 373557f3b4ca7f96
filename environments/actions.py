"""Convert actions between the policy's units and the environment's.

A policy acts in [−1, 1] wherever both bounds of a component are finite, so that the same initial noise and learning
rate suit all environments. Environments, demonstrations and saved episodes use the environment's units.
"""

from __future__ import annotations

import math
import textwrap
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

MAX_COMBINATIONS = 1024  # of MultiDiscrete and MultiBinary actions, each of which has its own logit
MAX_RANGE = 1e10  # bounds this far apart mean unbounded: ±1e10 in dm_control, ± the largest float32 elsewhere
MAX_FLOAT = float(np.finfo(np.float32).max)
MAX_INTEGER = 2.0**53  # float64 represents all integers up to here


class ActionConverter(Protocol):
    """Converts actions of any leading dimensions, e.g. of one environment (), or of T steps of N environments."""

    policy_space: Any
    """Action space of the policy: a 1-D Box in the policy's units, or a Discrete that starts at 0."""

    def to_env(self, actions: Any) -> Any:
        """Return the policy's actions as members of the environment's action space; those outside are clipped."""

    def to_policy(self, actions: np.ndarray) -> np.ndarray:
        """Return the environment's actions in the policy's units, not clipped.

        Raises:
            ValueError: if a discrete action is not in the environment's action space.
        """


def make_converter(space: spaces.Space[Any]) -> ActionConverter:
    """Return the converter for an environment's action space.

    Raises:
        ValueError: if agents do not support the space; the message says what to do.
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteConverter(space)
    if isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        if not math.prod(space.shape):
            raise ValueError(f"the action space {describe_space(space)} is empty, so there is nothing to learn")
        return BoxConverter(space) if isinstance(space, spaces.Box) else CombinationConverter(space)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        raise ValueError(
            f"composite actions, e.g. of multiple agents, are not supported: {describe_space(space)}; combine them "
            f"into one Box or MultiDiscrete with a gymnasium.ActionWrapper"
        )
    raise ValueError(
        f"the action space {describe_space(space)} is not supported; convert it to a Box or Discrete with a "
        f"gymnasium.ActionWrapper"
    )


def describe_space(space: spaces.Space[Any]) -> str:
    """Return a space on one line, shortened for error messages."""
    return textwrap.shorten(str(space), 200, placeholder=" …")


class BoxConverter:
    """Rescales actions from [−1, 1] to the bounds of each component of a Box, and flattens its shape.

    Components without two finite bounds keep the environment's units. Integers are rounded.
    """

    def __init__(self, space: spaces.Box) -> None:
        self._shape, self._dtype = space.shape, space.dtype
        self._is_integer = space.dtype.kind in "biu"
        limit = MAX_INTEGER if self._is_integer else MAX_FLOAT
        low, high = (bound.astype(np.float64).ravel().clip(-limit, limit) for bound in (space.low, space.high))
        bounded = (space.bounded_below & space.bounded_above).ravel() & (high - low < MAX_RANGE)
        self._center = np.where(bounded, (low + high) / 2, 0.0)
        self._half_range = np.where(bounded, (high - low) / 2, 1.0)
        self._divisor = np.where(self._half_range > 0, self._half_range, np.inf)  # a constant component is 0
        self._same_units = bool((self._center == 0).all() and (self._half_range == 1).all())
        # Clipping in the dtype of the space makes no copy in float64.
        self._low: np.ndarray = low if self._is_integer else space.low.ravel()
        self._high: np.ndarray = high if self._is_integer else space.high.ravel()
        policy_low, policy_high = np.where(bounded, -1.0, low), np.where(bounded, 1.0, high)
        self.policy_space = spaces.Box(policy_low.astype(np.float32), policy_high.astype(np.float32))

    def to_env(self, actions: Any) -> np.ndarray:
        """Return actions (..., A) in the environment's units, shape and dtype, clipped to its bounds."""
        actions = np.asarray(actions)
        values = actions if self._same_units else actions * self._half_range + self._center
        if self._is_integer:
            values = np.rint(values)
        clipped = values.clip(self._low, self._high).astype(self._dtype, copy=False)
        return clipped.reshape(actions.shape[:-1] + self._shape)

    def to_policy(self, actions: np.ndarray) -> np.ndarray:
        """Return the environment's actions in the policy's units (..., A)."""
        flat = actions.reshape(actions.shape[: actions.ndim - len(self._shape)] + self.policy_space.shape)
        return flat if self._same_units else (flat - self._center) / self._divisor


class DiscreteConverter:
    """Shifts a Discrete to start at 0."""

    def __init__(self, space: spaces.Discrete) -> None:
        self._space = space
        self._same_units = space.start == 0 and space.dtype == np.int64
        self.policy_space = spaces.Discrete(int(space.n))

    def to_env(self, actions: Any) -> Any:
        """Return actions (...) offset by the start, in the space's dtype."""
        if self._same_units:
            return actions
        return (np.asarray(actions) + int(self._space.start)).astype(self._space.dtype)

    def to_policy(self, actions: np.ndarray) -> np.ndarray:
        """Return actions (...) that start at 0; raises a ValueError for any that the space does not contain."""
        first, last = int(self._space.start), int(self._space.start + self._space.n - 1)
        shifted = actions - np.int64(first)
        if not np.isin(shifted, np.arange(last - first + 1)).all():
            raise ValueError(f"discrete actions must be integers from {first} to {last}")
        return shifted.astype(np.int64)


class CombinationConverter:
    """Enumerates the combinations of a MultiDiscrete or MultiBinary, so that a policy chooses one of them."""

    def __init__(self, space: spaces.MultiDiscrete | spaces.MultiBinary) -> None:
        self._space = space
        sizes = space.nvec if isinstance(space, spaces.MultiDiscrete) else np.full(space.shape, 2)
        self._sizes = tuple(int(size) for size in sizes.ravel())
        self._start = np.asarray(getattr(space, "start", 0), np.int64)
        count = math.prod(self._sizes)
        if count > MAX_COMBINATIONS:
            raise ValueError(
                f"the action space has more than {MAX_COMBINATIONS:,} combinations of actions; convert it to a Box "
                f"with a gymnasium.ActionWrapper: {describe_space(space)}"
            )
        self.policy_space = spaces.Discrete(count)

    def to_env(self, actions: Any) -> np.ndarray:
        """Return the combinations with these indices (...), in the space's shape and dtype."""
        parts = np.stack(np.unravel_index(actions, self._sizes), axis=-1)
        combinations = parts.reshape(np.shape(actions) + self._space.shape) + self._start
        return np.asarray(combinations.astype(self._space.dtype))

    def to_policy(self, actions: np.ndarray) -> np.ndarray:
        """Return the indices (...) of combinations; raises a ValueError for any that the space does not contain."""
        shape = actions.shape[: actions.ndim - len(self._space.shape)]
        parts = (actions - self._start).reshape(*shape, len(self._sizes))
        if not ((parts == np.floor(parts)) & (parts >= 0) & (parts < self._sizes)).all():
            raise ValueError(f"actions must be members of {describe_space(self._space)}")
        numbers = np.ravel_multi_index(tuple(np.moveaxis(parts.astype(np.int64), -1, 0)), self._sizes)
        return np.asarray(numbers, np.int64)
