"""One demonstration, and what makes it usable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.helpers.errors import UserError


@dataclass(frozen=True)
class Episode:
    """One whole episode of `L` steps."""

    obs: np.ndarray  # (L+1, O), the last row is the final observation
    actions: np.ndarray  # (L, A) or (L,), as the environment got them
    rewards: np.ndarray  # (L,) raw
    terminated: bool
    truncated: bool
    metadata: Callable[[], Mapping[str, Any]] = dict  # reads what the file tells besides: environment, versions, seed

    @property
    def return_(self) -> float:
        """Sum of raw rewards."""
        return float(np.sum(self.rewards, dtype=np.float64))

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.rewards)


def check_episode(episode: Episode, source: str) -> None:
    """Refuse what is no episode, or holds what networks cannot calculate with.

    Args:
        episode: what was read.
        source: what to call it.

    Raises:
        UserError: saying what is wrong.
    """
    length = len(episode.actions)
    if episode.rewards.ndim != 1 or episode.obs.ndim != 2 or episode.actions.ndim not in (1, 2):
        raise UserError(
            f"{source}: observations, actions and rewards of shapes {episode.obs.shape}, {episode.actions.shape} and "
            f"{episode.rewards.shape} are not rows of numbers, one a step"
        )
    if length == 0 or len(episode.rewards) != length or len(episode.obs) != length + 1:
        raise UserError(f"{source} is empty, or its fields differ in length")
    check_numbers({"observations": episode.obs, "actions": episode.actions, "rewards": episode.rewards}, source)


def check_numbers(fields: Mapping[str, np.ndarray], source: str) -> None:
    """Refuse arrays with a NaN, or with a number that is infinite in 32 bits, with which networks calculate.

    Raises:
        UserError: naming the first such array; `source` is what holds it.
    """
    with np.errstate(over="ignore"):
        odd = next((name for name, field in fields.items() if not np.isfinite(field.astype(np.float32)).all()), "")
    if odd:
        raise UserError(f"{source} holds a NaN, or a number that is infinite in 32 bits, in {odd}")


def check_ends(ends: Mapping[str, np.ndarray], source: str) -> None:
    """Refuse what holds more than one episode.

    Args:
        ends: (L,) each, true where an episode ends, by name.
        source: what to call it.

    Raises:
        UserError: naming the step after which another episode follows.
    """
    for name, flags in ends.items():
        if flags[:-1].any():
            raise UserError(f"{source} goes on after an episode's end, {name}[{int(np.argmax(flags != 0))}]")
