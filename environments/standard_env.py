"""Convert what users' environments return to one format."""

from __future__ import annotations

import numbers
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces

from milozero.helpers.errors import RunError
from milozero.helpers.seeding import seed_global_rngs

AGENT_DTYPES = (np.float32, np.float64)  # observations of other types become float32
NUMBERS, FLAGS = (float, int, np.floating, np.integer), (bool, np.bool_)


class StandardEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Returns observations as new float vectors, rewards and flags as numbers, and empty infos.

    Observations are copied, because environments may write into one array. Rewards and flags may be arrays of one
    element. Infos are dropped: nothing uses them, and a vector cannot join those of different shapes.

    A reset with a seed also seeds the global generators of Python, NumPy and torch, for environments that draw from
    them.

    Raises:
        RunError: by `reset` and `step`, if the environment returns anything else; the message says what it returned.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, spaces.Box)
        self._shape, self._dtype = space.shape, space.dtype if space.dtype in AGENT_DTYPES else np.float32
        low, high = (bound.astype(self._dtype).ravel() for bound in (space.low, space.high))
        self.observation_space = spaces.Box(low, high, dtype=self._dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        if seed is not None:
            seed_global_rngs(seed)
        result = self.env.reset(seed=seed, options=options)
        if not isinstance(result, tuple) or len(result) != 2:
            raise RunError(f"reset() returned {describe(result)}, not (observation, info)")
        return self._copy_obs(result[0], "reset"), {}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step."""
        result = self.env.step(action)
        if not isinstance(result, tuple | list) or len(result) != 5:
            found = f"{len(result)} values" if isinstance(result, tuple | list) else describe(result)
            raise RunError(f"step() returned {found}, not (observation, reward, terminated, truncated, info)")
        obs, reward, terminated, truncated, _ = result
        if not isinstance(reward, NUMBERS):
            reward = _to_number(reward, "reward")
        if not isinstance(terminated, FLAGS):
            terminated = bool(_to_number(terminated, "terminated"))
        if not isinstance(truncated, FLAGS):
            truncated = bool(_to_number(truncated, "truncated"))
        return self._copy_obs(obs, "step"), reward, terminated, truncated, {}

    def _copy_obs(self, obs: Any, method: str) -> np.ndarray:
        try:
            array = _to_array(obs, self._dtype)
        except Exception as error:  # objects that convert themselves raise arbitrary exceptions
            problem = f"which is no array of numbers: {' '.join(str(error).split())}"
        else:
            if array.shape == self._shape and obs is not None:
                return array.reshape(-1)
            problem = f"but observation_space has shape {self._shape}"
        raise RunError(f"{method}() returned the observation {describe(obs)}, {problem}")


def is_provided(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether Gymnasium or MiloZero provides an environment, rather than the user."""
    if type(env.unwrapped).__module__.startswith("milozero."):
        return True
    spec = gymnasium.registry.get(env.unwrapped.spec.id) if env.unwrapped.spec else None
    return spec is not None and str(spec.entry_point).startswith("gymnasium.") and not spec.additional_wrappers


def _to_array(value: Any, dtype: Any = None) -> np.ndarray:
    """Return a new array, also of a tensor with a gradient, on another device or of a type unknown to NumPy."""
    try:
        return np.array(value, dtype)
    except Exception:  # objects that convert themselves raise arbitrary exceptions
        if not hasattr(value, "detach"):
            raise
        return np.array(value.detach().cpu().double(), dtype)


def _to_number(value: Any, name: str) -> Any:
    """Return a number of any type, or the only element of an array, as a plain number."""
    try:
        array = _to_array(value)
    except Exception:  # objects that convert themselves raise arbitrary exceptions
        array = np.asarray(None)
    number: Any = array.item() if array.size == 1 and array.dtype.kind in "biufO" else None
    if not isinstance(number, numbers.Number) or isinstance(number, complex):
        raise RunError(f"step() returned {describe(value)} as {name}, not a number")
    return float(number)  # type: ignore[arg-type]  # also a Decimal or a Fraction


def describe(value: Any) -> str:
    """Return a short description of a value of any type, for messages."""
    name, shape, dtype = type(value).__name__, getattr(value, "shape", None), getattr(value, "dtype", None)
    if value is None or isinstance(value, bool | int | float | complex):
        return repr(value)
    if isinstance(value, str | bytes):
        return f"{name} {value[:40]!r}"
    if isinstance(value, list | tuple | dict | set):
        return f"{name} of length {len(value)}"
    return name if shape is None or dtype is None else f"{name} of shape {tuple(shape)} and type {dtype}"
