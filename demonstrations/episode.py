"""One demonstration and its validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.helpers.errors import UserError

END_FLAGS = ("terminateds", "truncateds")  # arrays with one flag per step; files of older projects lack them


@dataclass(frozen=True)
class Episode:
    """A complete episode of `L` steps."""

    obs: np.ndarray  # (L+1, O), including the final observation
    actions: np.ndarray  # (L, *action shape), in the environment's units, as passed to it
    rewards: np.ndarray  # (L,), unnormalized
    terminated: bool
    truncated: bool
    metadata: Callable[[], Mapping[str, Any]] = dict  # reads environment, versions and seed from the file

    @property
    def return_(self) -> float:
        """Sum of the unnormalized rewards."""
        return float(np.sum(self.rewards, dtype=np.float64))

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.rewards)


def check_episode(episode: Episode, source: str) -> None:
    """Check the shapes and values of an episode; error messages name its `source`.

    Raises:
        UserError: if shapes are inconsistent or a value is not finite in float32.
    """
    length = len(episode.actions)
    if episode.rewards.ndim != 1 or episode.obs.ndim != 2 or not episode.actions.ndim:
        raise UserError(
            f"{source}: expected one row per step, but observations, actions and rewards have shapes "
            f"{episode.obs.shape}, {episode.actions.shape} and {episode.rewards.shape}"
        )
    if length == 0 or len(episode.rewards) != length or len(episode.obs) != length + 1:
        raise UserError(f"{source} is empty, or its arrays differ in length")
    check_numbers({"observations": episode.obs, "actions": episode.actions, "rewards": episode.rewards}, source)


def flatten_rows(observations: np.ndarray) -> np.ndarray:
    """Return observations (L, ...) flattened to vectors (L, O), as in training."""
    return observations.reshape(len(observations), math.prod(observations.shape[1:]))


def check_numbers(arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Check that arrays, name → array, are finite in float32, the precision of the networks.

    Raises:
        UserError: if a value is not finite; the message names the first such array.
    """
    with np.errstate(over="ignore"):
        bad = next((name for name, array in arrays.items() if not np.isfinite(array.astype(np.float32)).all()), "")
    if bad:
        raise UserError(f"{source} contains a NaN or a value that is infinite in float32, in {bad}")


def build_episode(
    fields: Mapping[str, np.ndarray], source: str, metadata: Callable[[], Mapping[str, Any]] = dict
) -> Episode:
    """Return the episode whose arrays are `fields`, with the names in HDF5 files; error messages name its `source`.

    Raises:
        UserError: if the episode ends before its last step, or `check_episode` rejects it.
    """
    ends = {name: fields[name] for name in ("dones1", *END_FLAGS) if name in fields}
    for name, flags in ends.items():
        if flags[:-1].any():
            raise UserError(f"{source} continues after the end of an episode, {name}[{int(np.argmax(flags != 0))}]")
    terminated, truncated = (name in ends and bool(np.any(ends[name][-1])) for name in END_FLAGS)
    obs = flatten_rows(np.concatenate([fields["obs0"], fields["obs1"][-1:]]))
    episode = Episode(obs, fields["acs"], fields["env_rews"], terminated, truncated, metadata)
    check_episode(episode, source)
    return episode
