"""Expert demonstrations for imitation learning, and the settings that select them.

To add a format, add one module to `formats/` and its name to `FORMATS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from milozero.demonstrations.episode import Episode
from milozero.demonstrations.formats import hdf5, minari_dataset, npz
from milozero.demonstrations.formats.hdf5 import read_demo, write_demo
from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import param
from milozero.helpers.errors import UserError

__all__ = ["Episode", "ImitationConfig", "Transitions", "check_compatible", "read_demo", "read_demos", "write_demo"]

# Modules with `claims(path)` and `open_episodes(path)`, which returns the number of episodes and a function that
# reads one of them. The first module that claims a path reads it.
FORMATS = (npz, minari_dataset, hdf5)
SINGLE_EPISODE_BLOCKS = 10  # into which a single demonstration is cut for validation


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """Settings of imitation learning. Every algorithm accepts them and logs the ones it ignores."""

    expert_path: str = param(
        "",
        "expert demonstrations: a folder with one HDF5 file per episode, an .npz file, or a Minari dataset folder",
        is_path=True,
        mutable_on_resume=True,
    )
    num_demos: int = param(0, "number of demonstrations, in name order; 0 uses all", low=0)
    demo_subsampling: int = param(
        1, "use every n-th step of each demonstration, from a random offset; 1 uses all steps", low=1
    )
    d_perception_stack: str = param("mlp_100", "hidden layers of the discriminator", check=parse_hidden_sizes)


@dataclass(frozen=True)
class Transitions:
    """`M` transitions of several episodes, in order."""

    obs: np.ndarray  # (M, O) float32
    actions: np.ndarray  # (M, A) float32 or (M,) int64, in the policy's units
    next_obs: np.ndarray  # (M, O) float32
    terminated: np.ndarray  # (M,) bool, false at a time limit
    episodes: np.ndarray  # (M,) int64, the index of each transition's episode

    def __len__(self) -> int:
        """Return the number of transitions."""
        return len(self.obs)


def subsample_transitions(episodes: Sequence[Episode], every: int, rng: np.random.Generator) -> Transitions:
    """Return every `every`-th step of each episode, from a random offset.

    Ho and Ermon (2016, section 6) subsample by 20 to make imitation harder. A shorter episode yields one step.
    """
    chosen = [(e, np.arange(rng.integers(min(every, len(e))), len(e), every)) for e in episodes]
    actions = np.concatenate([e.actions[steps] for e, steps in chosen])
    return Transitions(
        obs=np.concatenate([e.obs[steps] for e, steps in chosen]).astype(np.float32),
        actions=actions.astype(np.int64 if actions.ndim == 1 else np.float32),
        next_obs=np.concatenate([e.obs[steps + 1] for e, steps in chosen]).astype(np.float32),
        terminated=np.concatenate([(steps == len(e) - 1) & e.terminated for e, steps in chosen]),
        episodes=np.repeat(np.arange(len(chosen)), [len(steps) for _, steps in chosen]),
    )


def split_transitions(
    transitions: Transitions, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shuffled rows of `transitions` for training and for validation, which share no episode.

    Consecutive steps are similar, so held-out steps of training episodes would not reveal overfitting. Unless
    `fraction` is 0, about that share of the episodes, but at least one, is held out. A single episode is cut into
    `SINGLE_EPISODE_BLOCKS` blocks of consecutive steps, which are split like episodes.
    """
    rows, groups = np.arange(len(transitions)), transitions.episodes
    if not fraction:
        return rng.permutation(rows), rows[:0]
    if groups[0] == groups[-1]:
        groups = rows * SINGLE_EPISODE_BLOCKS // len(rows)
    order = rng.permutation(np.unique(groups))
    count = min(max(round(fraction * len(order)), 1), len(order) - 1)
    held_out = np.isin(groups, order[:count])
    return rng.permutation(rows[~held_out]), rng.permutation(rows[held_out])


def read_demos(
    path: str, count: int, with_progress: Callable[[Sequence[int]], Iterator[int]] = iter
) -> list[Episode]:
    """Return the first `count` episodes in name order; 0 returns all.

    `with_progress` wraps a sequence, e.g. to show a progress bar.

    Raises:
        UserError: if the path does not exist, cannot be read, or contains fewer episodes.
    """
    source = Path(path)
    try:
        exists = source.exists()
    except OSError as error:
        raise UserError(f"--expert_path={path}: {error.strerror}") from None
    if not exists:
        raise UserError(f"--expert_path={path}: no such folder or file")
    for module in FORMATS:
        if module.claims(source):
            available, read_episode = module.open_episodes(source)
            if count > available:
                raise UserError(f"--num_demos={count}, but {path} contains {available}")
            return [read_episode(number) for number in with_progress(range(count or available))]
    raise UserError(f"--expert_path={path}: expected a folder of HDF5 files, an .npz file or a Minari dataset")


def checksum(episodes: Sequence[Episode], *, rewards: bool = False) -> str:
    """Return the CRC-32 of observations, actions, terminations and, if they matter, `rewards`, in hexadecimal."""
    value = 0
    for episode in episodes:
        for array in (episode.obs, episode.actions, np.array(episode.terminated), *[episode.rewards] * rewards):
            value = zlib.crc32(np.ascontiguousarray(array).tobytes(), value)
    return f"{value:08x}"


def check_compatible(episodes: Sequence[Episode], path: str, observation_size: int, space: Any) -> None:
    """Check that the demonstrations in `path` fit the observation size and action space of an environment.

    Raises:
        UserError: if the shapes of observations or actions differ, or a discrete action is out of range.
    """
    from milozero.environments.actions import make_converter  # imports gymnasium

    converter = make_converter(space)
    for episode in episodes:
        shapes = (episode.obs.shape[1:], episode.actions.shape[1:])
        if shapes != ((observation_size,), tuple(space.shape)):
            raise UserError(
                f"--expert_path={path}: observations and actions have shapes {shapes[0]} and {shapes[1]}, "
                f"but the environment's have {(observation_size,)} and {tuple(space.shape)}"
            )
        try:
            converter.to_policy(episode.actions)
        except ValueError as error:
            raise UserError(f"--expert_path={path}: {error}") from None
