"""Demonstrations in a Minari dataset on disk (https://minari.farama.org), read by the minari package."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from milozero.demonstrations.episode import Episode, check_episode, flatten_rows
from milozero.helpers.errors import UserError


def claims(path: Path) -> bool:
    """Claim the folder of a dataset, or its ``data`` subfolder."""
    return path.is_dir() and _find_data_folder(path) is not None


def _find_data_folder(path: Path) -> Path | None:
    return next((folder for folder in (path, path / "data") if (folder / "metadata.json").is_file()), None)


def _read_episode(dataset: Any, path: Path, number: int) -> Episode:
    try:
        data = dataset[number]
        observations, actions = data.observations, data.actions
        if isinstance(observations, dict | tuple) or isinstance(actions, dict | tuple):
            raise ValueError("dictionary or tuple observations and actions are not supported")
        spec = dataset.env_spec
        episode = Episode(
            obs=flatten_rows(np.asarray(observations)),
            actions=np.asarray(actions),
            rewards=np.asarray(data.rewards),
            terminated=bool(data.terminations[-1]),
            truncated=bool(data.truncations[-1]),
            metadata=lambda: {"env_id": spec.id if spec else "", "minari": dataset.id},
        )
    except Exception as error:  # Minari, h5py and json raise arbitrary exceptions on damaged bytes
        raise UserError(f"cannot read episode {number} of {path}: {error}") from None
    check_episode(episode, f"episode {number} of {path}")
    return episode


def _check_spaces(path: Path) -> None:
    """Raise a ValueError unless a dataset describes its spaces.

    Otherwise, Minari would make the environment that the dataset names, which can run any code on the import path.
    """
    folder = _find_data_folder(path)
    assert folder is not None
    metadata = json.loads((folder / "metadata.json").read_bytes())
    for name in ("observation_space", "action_space"):
        if not metadata.get(name):
            raise ValueError(f"its metadata.json has no {name}")


def open_episodes(path: Path) -> tuple[int, Callable[[int], Episode]]:
    """Return the number of episodes in a dataset and a function that reads one.

    Raises:
        UserError: if Minari is not installed, or the dataset is damaged, empty, or does not describe its spaces.
    """
    try:
        from minari import MinariDataset
    except ModuleNotFoundError:
        raise UserError("Minari datasets require minari (pip install -r requirements.txt)") from None
    logging.getLogger("minari").setLevel(logging.ERROR)
    try:
        _check_spaces(path)
        dataset = MinariDataset(_find_data_folder(path))
        count = int(dataset.total_episodes)
    except Exception as error:  # Minari raises arbitrary exceptions on damaged bytes
        raise UserError(f"cannot read the dataset {path}: {error}") from None
    if not count:
        raise UserError(f"--expert_path={path}: no demonstrations found")
    return count, functools.partial(_read_episode, dataset, path)
