"""One demonstration, and what makes it usable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers.errors import UserError


@dataclass(frozen=True)
class Episode:
    """One whole episode of `L` steps."""

    obs: np.ndarray  # (L+1, O), the last row is the final observation
    actions: np.ndarray  # (L, A) or (L,), as the environment got them
    rewards: np.ndarray  # (L,) raw
    terminated: bool
    truncated: bool
    facts: Callable[[], Mapping[str, Any]] = dict  # reads what the file tells besides: environment, versions, seed

    @property
    def ret(self) -> float:
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
    parts = (episode.obs, episode.actions, episode.rewards)
    with np.errstate(over="ignore"):  # networks calculate with 32 bits
        finite = all(np.isfinite(part.astype(np.float32)).all() for part in parts)
    if not finite:
        raise UserError(f"{source} holds a NaN, or a number that is infinite in 32 bits")
