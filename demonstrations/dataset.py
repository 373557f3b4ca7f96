"""Demonstrations: what experts did, from files of several formats, and the settings of those who learn from them.

A new format is one module beside this one, and one line in `FORMATS`.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from milozero.demonstrations.episode import Episode
from milozero.demonstrations.formats.hdf5 import read_demo, write_demo
from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import param, usable_path
from milozero.helpers.errors import UserError

__all__ = ["Episode", "ImitationConfig", "Transitions", "check_fit", "read_demo", "read_demos", "write_demo"]

# format → module with `claims(path)` and `open_episodes(path)`; a path belongs to the first that claims it
FORMATS = {
    "npz": "milozero.demonstrations.formats.npz",
    "minari": "milozero.demonstrations.formats.minari_dataset",
    "hdf5": "milozero.demonstrations.formats.hdf5",
}


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """Settings of imitation, accepted with every algorithm; one that does not use them says so."""

    expert_path: str = param(
        "",
        "demonstrations: a folder with one HDF5 file for each episode, an .npz file, or the folder of a Minari "
        "dataset",
        check=usable_path,
        mutable_on_resume=True,
    )
    num_demos: int = param(0, "how many of them to take, in name order; 0 for all", low=0)
    demo_subsampling: int = param(
        1, "learn from every so many-th step of a demonstration, the first drawn by the seed; 1 for all", low=1
    )
    d_perception_stack: str = param("mlp_100", "hidden layers of the discriminator", check=parse_hidden_sizes)


@dataclass(frozen=True)
class Transitions:
    """`M` steps out of episodes, in their order."""

    obs: np.ndarray  # (M, O) float32
    actions: np.ndarray  # (M, A) float32 or (M,) int64
    next_obs: np.ndarray  # (M, O) float32
    terminated: np.ndarray  # (M,) bool, the episode ended there by its own rules

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.obs)


def transitions(
    episodes: Sequence[Episode], every: int, rng: np.random.Generator, first_action: int = 0
) -> Transitions:
    """Return the steps to learn from: of each episode every `every`-th, from a random one of the first `every` on.

    So Ho and Ermon (2016, section 6) do, with 20, to make imitation hard. An episode that is shorter gives one step.
    Actions of a finite set are counted from 0, as networks do; the environment's first is `first_action`.
    """
    chosen = [(e, np.arange(rng.integers(min(every, len(e))), len(e), every)) for e in episodes]
    last = [np.arange(len(e)) == len(e) - 1 for e in episodes]
    actions = np.concatenate([e.actions[steps] for e, steps in chosen])
    return Transitions(
        obs=np.concatenate([e.obs[steps] for e, steps in chosen]).astype(np.float32),
        actions=(actions - first_action).astype(np.int64) if actions.ndim == 1 else actions.astype(np.float32),
        next_obs=np.concatenate([e.obs[steps + 1] for e, steps in chosen]).astype(np.float32),
        terminated=np.concatenate(
            [ends[steps] & e.terminated for (e, steps), ends in zip(chosen, last, strict=True)]
        ),
    )


def read_demos(
    path: str, count: int, with_progress: Callable[[Sequence[int]], Iterator[int]] = iter
) -> list[Episode]:
    """Return the first `count` episodes in name order, or all of them for 0.

    Args:
        path: of the demonstrations.
        count: how many.
        with_progress: goes through a sequence, and shows how far it is.

    Raises:
        UserError: where they are not there, cannot be used, or are fewer.
    """
    place = Path(path)
    try:
        there = place.exists()
    except OSError as error:
        raise UserError(f"--expert_path={path}: {error.strerror}") from None
    if not there:
        raise UserError(f"--expert_path={path}: no such folder or file")
    for module in map(importlib.import_module, FORMATS.values()):
        if module.claims(place):
            with module.open_episodes(place) as episodes:
                if count > len(episodes):
                    raise UserError(f"--num_demos={count}, but {path} holds {len(episodes)}")
                return [episodes[i] for i in with_progress(range(count or len(episodes)))]
    raise UserError(f"--expert_path={path}: a folder of HDF5 files, an .npz file or a Minari dataset is expected")


def checksum(episodes: Sequence[Episode]) -> str:
    """Return a checksum of what there is to learn from."""
    value = 0
    for episode in episodes:
        for part in (episode.obs, episode.actions, np.array(episode.terminated)):
            value = zlib.crc32(np.ascontiguousarray(part).tobytes(), value)
    return f"{value:08x}"


def check_fit(episodes: Sequence[Episode], path: str, observation_size: int, space: Any) -> None:
    """Refuse demonstrations that were recorded in another environment.

    Args:
        episodes: the demonstrations.
        path: where they are.
        observation_size: of the environment.
        space: its actions.

    Raises:
        UserError: where observations or actions differ in size, or an action is none of a finite set.
    """
    for episode in episodes:
        sizes = (episode.obs.shape[1:], episode.actions.shape[1:])
        if sizes != ((observation_size,), tuple(space.shape)):
            raise UserError(
                f"--expert_path={path}: observations and actions of shapes {sizes[0]} and {sizes[1]}, "
                f"but the environment has {(observation_size,)} and {tuple(space.shape)}",
            )
        if not space.shape and not np.isin(episode.actions, np.arange(space.start, space.start + space.n)).all():
            last = space.start + space.n - 1
            raise UserError(f"--expert_path={path}: an action that is none of {space.start} to {last}")
