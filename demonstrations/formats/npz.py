"""Demonstrations in one ``.npz`` file, in one of two layouts.

The first has the keys of the HDF5 files (``obs0``, ``acs``, ``obs1``, ``dones1``, ``env_rews``) with concatenated
episodes, and their lengths in ``ep_lens``. The second is that of OpenAI Baselines: ``obs``, ``acs`` and ``rews``,
(N, T, ...). It lacks the observation after the last step, so the last step is dropped.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from milozero.demonstrations.episode import END_FLAGS, Episode, build_episode, check_episode, check_numbers
from milozero.helpers.errors import UserError

CONCATENATED_KEYS = ("obs0", "acs", "obs1", "dones1", "env_rews", "ep_lens")
BASELINES_KEYS = ("obs", "acs", "rews")
MAX_ARRAY_BYTES = 2**30


def claims(path: Path) -> bool:
    """Claim ``.npz`` files."""
    return path.suffix == ".npz" and path.is_file()


def open_episodes(path: Path) -> tuple[int, Callable[[int], Episode]]:
    """Return the number of episodes in a file and a function that returns one.

    Raises:
        UserError: if the file is damaged, lacks an array, or contains no episodes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if large := [entry.filename for entry in archive.infolist() if entry.file_size > MAX_ARRAY_BYTES]:
                raise ValueError(f"{large[0]} is larger than {MAX_ARRAY_BYTES >> 20} MiB")
        with np.load(path, allow_pickle=False) as file:
            keys = next((keys for keys in (CONCATENATED_KEYS, BASELINES_KEYS) if set(keys) <= set(file)), ())
            data = {key: file[key] for key in keys + END_FLAGS if key in file}
    except Exception as error:  # numpy, zipfile and zlib raise arbitrary exceptions on damaged bytes
        raise UserError(f"cannot read the demonstrations {path}: {error}") from None
    if not keys:
        raise UserError(
            f"the demonstrations {path} have neither {', '.join(CONCATENATED_KEYS)} nor {', '.join(BASELINES_KEYS)}"
        )
    if bad := next((key for key, array in data.items() if array.dtype.kind not in "biuf" or not array.ndim), ""):
        raise UserError(f"the demonstrations {path}: {bad} does not contain rows of numbers")
    check_numbers(data, f"the demonstrations {path}")
    episodes = _split_concatenated(data, path) if "obs0" in data else _split_baselines(data, path)
    if not episodes:
        raise UserError(f"no demonstrations found in {path}")
    return len(episodes), episodes.__getitem__


def _split_concatenated(data: dict[str, np.ndarray], path: Path) -> list[Episode]:
    lengths = data.pop("ep_lens")
    total = int(lengths.sum()) if lengths.ndim == 1 and lengths.dtype.kind in "iu" and (lengths > 0).all() else -1
    if any(len(array) != total for array in data.values()):
        raise UserError(f"the demonstrations {path}: ep_lens does not add up to the length of every other array")
    if data["obs0"].shape != data["obs1"].shape:
        raise UserError(f"the demonstrations {path}: obs0 and obs1 have different shapes")
    episodes = []
    for number, (end, length) in enumerate(zip(np.cumsum(lengths), lengths, strict=True)):
        fields = {key: array[end - length : end] for key, array in data.items()}
        episodes.append(build_episode(fields, f"demonstration {number} of {path}"))
    return episodes


def _split_baselines(data: dict[str, np.ndarray], path: Path) -> list[Episode]:
    obs, actions, rewards = (data[key] for key in BASELINES_KEYS)
    if obs.ndim != 3 or not obs.shape[:2] == actions.shape[:2] == rewards.shape:
        raise UserError(f"the demonstrations {path}: obs, acs and rews differ in the number of episodes or steps")
    episodes = [Episode(o, a[:-1], r[:-1], False, True) for o, a, r in zip(obs, actions, rewards, strict=True)]
    for number, episode in enumerate(episodes):
        check_episode(episode, f"demonstration {number} of {path}")
    return episodes
