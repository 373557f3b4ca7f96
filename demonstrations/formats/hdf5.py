"""Demonstrations as HDF5 files, one per episode.

The layout is that of ``data/demos/Hopper-v3``, which related older projects also use.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from milozero import environments
from milozero.demonstrations.episode import END_FLAGS, Episode, build_episode, check_numbers
from milozero.helpers.errors import UserError
from milozero.helpers.files import write_bytes

KEYS = ("obs0", "acs", "obs1", "dones1", "env_rews", "ep_lens", "ep_env_rets")
MAX_FIELD_BYTES = 2**30  # a million steps of a humanoid


def write_demo(path: Path, episode: Episode, attributes: Mapping[str, Any]) -> None:
    """Write one episode atomically, with `attributes` (environment, seed, ...) and package versions as metadata.

    Raises:
        OSError: if the file cannot be written.
    """
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

    content = io.BytesIO()  # in memory, because HDF5 does not reliably report a full disk
    with h5py.File(content, "w") as file:
        for name, values in fields.items():
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)
        file["ep_lens"] = np.array([length])
        file["ep_env_rets"] = np.array([episode.return_])
        file.attrs.update(attributes)
        file.attrs.update(environments.get_versions(str(attributes.get("env_id", ""))))
    write_bytes(path, content.getvalue())


def read_demo(path: Path) -> Episode:
    """Read one episode.

    Raises:
        UserError: if the file is damaged, lacks a key, contains a NaN or is not a single episode.
    """
    data = _read_fields(path)
    source = f"the demonstration {path}"
    check_numbers(data, source)
    length = len(data["env_rews"])
    vector_shapes = {data[key].shape for key in ("env_rews", "dones1", *END_FLAGS) if key in data}
    lengths_differ = any(len(data[key]) != length for key in ("obs0", "acs", "obs1"))
    if length == 0 or vector_shapes != {(length,)} or lengths_differ:
        raise UserError(f"{source} is empty, or its arrays differ in length")
    if (expected := data["ep_lens"].sum()) != length:
        raise UserError(f"{source} has {length} steps, but ep_lens is {expected}")
    if data["obs0"].shape != data["obs1"].shape:
        raise UserError(f"{source}: obs0 and obs1 have different shapes")
    return build_episode(data, source, functools.partial(read_metadata, path))


def _read_fields(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a demonstration."""
    import h5py

    if not os.path.isfile(path):  # opening a named pipe would block
        raise UserError(f"cannot read the demonstration {path}: not a regular file")
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise UserError(f"the demonstration {path} lacks {', '.join(missing)}")
            return {key: read_field(file, key) for key in KEYS + END_FLAGS if key in file}
    except UserError:
        raise
    except Exception as error:  # h5py raises arbitrary exceptions on damaged bytes
        raise UserError(f"cannot read the demonstration {path}: {error}") from None


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the attributes of a demonstration: environment, versions, seed, how its actions were chosen.

    Only call this on request: the HDF5 library may hang on damaged bytes.
    """
    import h5py

    kinds = str | int | np.integer | np.bool_
    with h5py.File(path, "r") as file:
        return {name: value for name, value in file.attrs.items() if isinstance(value, kinds)}


def read_field(file: Any, key: str) -> np.ndarray:
    """Return one numeric array that is stored in the file itself.

    Raises:
        ValueError: if it is not numeric, too large, or a link to another file, which demonstrations may not contain.
    """
    import h5py

    dataset = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"{key} is not an array stored in this file")
    if dataset.dtype.kind not in "biuf" or not dataset.shape:
        raise ValueError(f"{key} has dtype {dataset.dtype} and shape {dataset.shape}, expected rows of numbers")
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if max(dataset.nbytes, chunk) > MAX_FIELD_BYTES:
        raise ValueError(f"{key} is larger than {MAX_FIELD_BYTES >> 20} MiB")
    return np.asarray(dataset)


def claims(path: Path) -> bool:
    """Claim every folder; `open_episodes` checks its contents."""
    return path.is_dir()


def open_episodes(path: Path) -> tuple[int, Callable[[int], Episode]]:
    """Return the number of episodes in a folder and a function that reads one, in name order.

    Raises:
        UserError: if the folder cannot be read or contains no HDF5 files.
    """
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in (".h5", ".hdf5"))
    except OSError as error:
        raise UserError(f"--expert_path={path}: {error.strerror}") from None
    if not files:
        raise UserError(f"--expert_path={path}: no demonstrations (*.h5) found")
    return len(files), lambda number: read_demo(files[number])
