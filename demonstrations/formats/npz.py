"""Demonstrations in one ``.npz`` file, in either of two layouts.

One has the keys of the HDF5 files (``obs0``, ``acs``, ``obs1``, ``dones1``, ``env_rews``, and ``ep_lens``), the
episodes one after another. The other is that of OpenAI's baselines: ``obs``, ``acs`` and ``rews``, (N, T, ...).
It lacks the observation after the last step, so that step is left out.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from milozero.demonstrations.episode import Episode, check_ends, check_episode, check_numbers
from milozero.helpers.errors import UserError

ONE_AFTER_ANOTHER = ("obs0", "acs", "obs1", "dones1", "env_rews", "ep_lens")
OF_BASELINES = ("obs", "acs", "rews")
MAX_ARRAY_BYTES = 2**30  # bytes of one array


def claims(path: Path) -> bool:
    """Take files with that ending."""
    return path.suffix == ".npz" and path.is_file()


@contextlib.contextmanager
def open_episodes(path: Path) -> Iterator[Sequence[Episode]]:
    """Give the episodes of a file.

    Raises:
        UserError: where it is damaged, lacks an array, or holds no episodes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if large := [entry.filename for entry in archive.infolist() if entry.file_size > MAX_ARRAY_BYTES]:
                raise ValueError(f"{large[0]} is larger than {MAX_ARRAY_BYTES >> 20} MiB")
        with np.load(path, allow_pickle=False) as file:
            keys = next((keys for keys in (ONE_AFTER_ANOTHER, OF_BASELINES) if set(keys) <= set(file)), ())
            data = {key: file[key] for key in (*keys, *({"terminateds", "truncateds"} & set(file)))}
    except Exception as error:  # whatever damaged bytes make of numpy, zipfile and zlib
        raise UserError(f"cannot read the demonstrations {path}: {error}") from None
    if not keys:
        raise UserError(
            f"the demonstrations {path} have neither {', '.join(ONE_AFTER_ANOTHER)} nor {', '.join(OF_BASELINES)}"
        )
    if odd := next((key for key, array in data.items() if array.dtype.kind not in "biuf" or not array.ndim), ""):
        raise UserError(f"the demonstrations {path}: {odd} holds no rows of numbers")
    check_numbers(data, f"the demonstrations {path}")
    episodes = _split(data, path) if "obs0" in data else _of_baselines(data, path)
    if not episodes:
        raise UserError(f"there are no demonstrations in {path}")
    for number, episode in enumerate(episodes):
        check_episode(episode, f"demonstration {number} of {path}")
    yield episodes


def _split(data: dict[str, np.ndarray], path: Path) -> list[Episode]:
    lengths = data.pop("ep_lens")
    total = int(lengths.sum()) if lengths.ndim == 1 and lengths.dtype.kind in "iu" and (lengths > 0).all() else -1
    if any(len(array) != total for array in data.values()):
        raise UserError(f"the demonstrations {path}: ep_lens does not add up to the length of every other array")
    if data["obs0"].shape != data["obs1"].shape:
        raise UserError(f"the demonstrations {path} have observations of different sizes")
    episodes = []
    for number, (end, length) in enumerate(zip(np.cumsum(lengths), lengths, strict=True)):
        part = {key: array[end - length : end] for key, array in data.items()}
        ends: dict[str, np.ndarray] = {k: part[k] for k in ("dones1", "terminateds", "truncateds") if k in part}
        check_ends(ends, f"demonstration {number} of {path}")
        episodes.append(
            Episode(
                obs=np.concatenate([part["obs0"], part["obs1"][-1:]]),
                actions=part["acs"],
                rewards=part["env_rews"],
                terminated=bool(np.any(part.get("terminateds", np.zeros(1))[-1])),
                truncated=bool(np.any(part.get("truncateds", np.zeros(1))[-1])),
            )
        )
    return episodes


def _of_baselines(data: dict[str, np.ndarray], path: Path) -> list[Episode]:
    obs, actions, rewards = (data[key] for key in OF_BASELINES)
    if obs.ndim != 3 or rewards.ndim != 2 or not obs.shape[:2] == actions.shape[:2] == rewards.shape:
        raise UserError(f"the demonstrations {path}: obs, acs and rews differ in their numbers of episodes or steps")
    return [Episode(o, a[:-1], r[:-1], False, True) for o, a, r in zip(obs, actions, rewards, strict=True)]
