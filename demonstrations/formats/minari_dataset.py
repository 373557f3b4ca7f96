"""Demonstrations in a Minari dataset on disk (https://minari.farama.org), read by the minari package."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from milozero.demonstrations.episode import Episode, check_episode
from milozero.helpers.errors import UserError


def claims(path: Path) -> bool:
    """Claim the folder of a dataset, or its ``data`` subfolder."""
    return path.is_dir() and _find_data_folder(path) is not None


def _find_data_folder(path: Path) -> Path | None:
    return next((folder for folder in (path, path / "data") if (folder / "metadata.json").is_file()), None)


class _Episodes(Sequence[Episode]):
    def __init__(self, dataset: Any, path: Path) -> None:
        self._dataset, self._path = dataset, path

    def __len__(self) -> int:
        return int(self._dataset.total_episodes)

    def __getitem__(self, index: Any) -> Any:
        try:
            data = self._dataset[index]
            observations, actions = data.observations, data.actions
            if isinstance(observations, dict | tuple) or isinstance(actions, dict | tuple):
                raise ValueError("dictionary or tuple observations and actions are not supported")
            spec = self._dataset.env_spec
            episode = Episode(
                obs=np.asarray(observations).reshape(len(observations), -1),
                actions=np.asarray(actions),
                rewards=np.asarray(data.rewards),
                terminated=bool(data.terminations[-1]),
                truncated=bool(data.truncations[-1]),
                metadata=lambda: {"env_id": spec.id if spec else "", "minari": self._dataset.id},
            )
        except Exception as error:  # Minari, h5py and json raise arbitrary exceptions on damaged bytes
            raise UserError(f"cannot read episode {index} of {self._path}: {error}") from None
        check_episode(episode, f"episode {index} of {self._path}")
        return episode


@contextlib.contextmanager
def open_episodes(path: Path) -> Iterator[Sequence[Episode]]:
    """Yield the episodes of a dataset; each is read on access.

    Raises:
        UserError: if Minari is not installed, or the dataset is damaged or empty.
    """
    try:
        from minari import MinariDataset
    except ModuleNotFoundError:
        raise UserError("Minari datasets require minari (pip install -r requirements.txt)") from None
    logging.getLogger("minari").setLevel(logging.ERROR)
    try:
        episodes = _Episodes(MinariDataset(_find_data_folder(path)), path)
        count = len(episodes)
    except Exception as error:  # Minari raises arbitrary exceptions on damaged bytes
        raise UserError(f"cannot read the dataset {path}: {error}") from None
    if not count:
        raise UserError(f"--expert_path={path}: no demonstrations found")
    yield episodes
