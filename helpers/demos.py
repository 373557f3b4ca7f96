"""Demonstrations: one HDF5 file per episode, and the settings of those who learn from them.

The layout is that of ``data/demos/Hopper-v3``, which older projects of this line also wrote.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import environments
from agents.stack import hidden_sizes
from helpers.checkpoint import write_atomically
from helpers.config import param, usable_path
from helpers.errors import UserError

KEYS = ("obs0", "acs", "obs1", "dones1", "env_rews", "ep_lens", "ep_env_rets")
FLAGS = ("terminateds", "truncateds")  # of every step; files of older projects lack them
LARGEST_FIELD = 2**30  # bytes, a million steps of a humanoid


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """Settings of imitation, accepted with every algorithm; one that does not use them says so."""

    expert_path: str = param(
        "", "folder of demonstrations, one HDF5 file per episode", check=usable_path, may_change=True
    )
    num_demos: int = param(0, "how many of them to take, in name order; 0 for all", low=0)
    d_perception_stack: str = param("mlp_100", "hidden layers of the discriminator", check=hidden_sizes)


@dataclass(frozen=True)
class Episode:
    """One whole episode of `L` steps."""

    obs: np.ndarray  # (L+1, O), the last row is the final observation
    actions: np.ndarray  # (L, A) or (L,), as the environment got them
    rewards: np.ndarray  # (L,) raw
    terminated: bool
    truncated: bool

    @property
    def ret(self) -> float:
        """Sum of raw rewards."""
        return float(np.sum(self.rewards, dtype=np.float64))

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.rewards)


def write_demo(path: Path, episode: Episode, attributes: Mapping[str, Any]) -> None:
    """Write one episode, atomically; `attributes` (environment, seed, ...) are kept with the versions."""
    import h5py

    length = len(episode)
    terminateds, truncateds = np.zeros(length, bool), np.zeros(length, bool)
    terminateds[-1], truncateds[-1] = episode.terminated, episode.truncated
    fields = {
        "obs0": episode.obs[:-1].astype(np.float32),
        "acs": episode.actions,
        "obs1": episode.obs[1:].astype(np.float32),
        "dones1": terminateds | truncateds,
        "terminateds": terminateds,
        "truncateds": truncateds,
        "env_rews": episode.rewards.astype(np.float32),
    }

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            for name, values in fields.items():
                file.create_dataset(name, data=values, compression="gzip", shuffle=True)
            file["ep_lens"] = np.array([length])
            file["ep_env_rets"] = np.array([episode.ret])
            file.attrs.update(attributes)
            file.attrs.update(environments.versions(str(attributes.get("env_id", ""))))

    write_atomically(path, write)


def read_demo(path: Path) -> Episode:
    """Return one episode.

    Raises:
        UserError: where the file is damaged, lacks a key, holds a NaN, or something else than an episode.
    """
    import h5py

    if not os.path.isfile(path):  # opening a named pipe would wait for ever
        raise UserError(f"cannot read the demonstration {path}: it is no file")
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise UserError(f"the demonstration {path} lacks {', '.join(missing)}")
            data = {key: read_field(file, key) for key in KEYS + FLAGS if key in file}
    except UserError:
        raise
    except Exception as error:  # whatever h5py raises on damaged bytes: OSError, KeyError, RuntimeError, ...
        raise UserError(f"cannot read the demonstration {path}: {error}") from None
    length = len(data["env_rews"])
    vectors = [data[key].shape for key in ("env_rews", "dones1", *FLAGS) if key in data]
    if length == 0 or set(vectors) != {(length,)} or any(len(data[key]) != length for key in ("obs0", "acs", "obs1")):
        raise UserError(f"the demonstration {path} is empty, or its fields differ in length")
    if data["obs0"].shape != data["obs1"].shape:
        raise UserError(f"the demonstration {path} has observations of different sizes")
    with np.errstate(over="ignore"):  # networks calculate with 32 bits
        finite = all(np.isfinite(data[key].astype(np.float32)).all() for key in ("obs0", "acs", "obs1", "env_rews"))
    if not finite:
        raise UserError(f"the demonstration {path} holds a NaN, or a number that is infinite in 32 bits")
    terminated = bool(data["terminateds"][-1]) if "terminateds" in data else bool(data["dones1"][-1])
    return Episode(
        obs=np.concatenate([data["obs0"], data["obs1"][-1:]]),
        actions=data["acs"],
        rewards=data["env_rews"],
        terminated=terminated,
        truncated=bool(data["truncateds"][-1]) if "truncateds" in data else False,
    )


def read_field(file: Any, key: str) -> np.ndarray:
    """Return one array of numbers that the file itself holds.

    Raises:
        ValueError: where it is something else, or in another file: a demonstration names no other files to be read.
    """
    import h5py

    dataset = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"{key} is no array, or one in another file")
    if dataset.dtype.kind not in "biuf" or not dataset.shape:
        raise ValueError(f"{key} holds {dataset.dtype} of shape {dataset.shape}, not rows of numbers")
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if max(dataset.nbytes, chunk) > LARGEST_FIELD:
        raise ValueError(f"{key} is larger than {LARGEST_FIELD >> 20} MiB")
    return np.asarray(dataset)


def read_demos(folder: str, count: int) -> list[Episode]:
    """Return the first `count` episodes of a folder in name order, or all of them for 0.

    Raises:
        UserError: where the folder or a file in it cannot be used, or holds fewer episodes.
    """
    try:
        files = sorted(file for file in Path(folder).iterdir() if file.suffix in (".h5", ".hdf5"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"--expert_path={folder}: no such folder") from None
    except OSError as error:
        raise UserError(f"--expert_path={folder}: {error.strerror}") from None
    if not files:
        raise UserError(f"--expert_path={folder}: there are no demonstrations (*.h5) in it")
    if count > len(files):
        raise UserError(f"--num_demos={count}, but {folder} holds {len(files)}")
    return [read_demo(file) for file in files[: count or None]]


def check_fit(episodes: list[Episode], folder: str, observation_size: int, action_shape: tuple[int, ...]) -> None:
    """Refuse demonstrations that were recorded in another environment.

    Raises:
        UserError: where observations or actions differ in size.
    """
    for episode in episodes:
        sizes = (episode.obs.shape[1:], episode.actions.shape[1:])
        if sizes != ((observation_size,), action_shape):
            raise UserError(
                f"--expert_path={folder}: observations and actions of shapes {sizes[0]} and {sizes[1]}, "
                f"but the environment has {(observation_size,)} and {action_shape}",
            )
