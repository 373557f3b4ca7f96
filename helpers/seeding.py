"""Independent random streams from a single seed, one per purpose, environment and iteration.

Streams belong to environments, not to workers: environment 3 gets the same noise as the fourth environment of one
worker or the second of another. So the number of workers does not change what a run samples.

MiloZero itself never draws from the global generators of Python, NumPy and torch, but users' environments may.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np


class Purpose(IntEnum):
    """The purpose of a random stream."""

    PARAMETERS = 0  # the same on every worker
    ENVIRONMENT = 1  # by global environment index
    NOISE = 2  # by global environment index
    SHUFFLE = 3  # by rank
    EVALUATION = 4  # by episode of the evaluations during training
    DEMONSTRATIONS = 5  # subsampling; the same on every worker
    DISCRIMINATOR = 6  # by rank
    TEST = 7  # by episode of ``--task=eval``
    EVALUATION_NOISE = 8  # of one episode, from that episode's seed
    CONSTRUCTION = 9  # of environments: 0 for evaluation, 1 + the index of a worker's first one for training
    SAVED_EPISODES = 10  # by episode of ``--save_traj``, so that imitators are not evaluated on their demonstrations


def _make_sequence(seed: int, purpose: Purpose, index: int, iteration: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), index, iteration))


def make_rng(seed: int, purpose: Purpose, index: int = 0, iteration: int = 0) -> np.random.Generator:
    """Return the random generator of stream (`seed`, `purpose`, `index`, `iteration`)."""
    return np.random.default_rng(_make_sequence(seed, purpose, index, iteration))


def make_seed(seed: int, purpose: Purpose, index: int = 0, iteration: int = 0) -> int:
    """Return a 31-bit seed, for libraries that take an integer."""
    return int(_make_sequence(seed, purpose, index, iteration).generate_state(1)[0] >> 1)


def make_episode_seed(seed: int, episode: int) -> int:
    """Return the 31-bit seed of an episode, from its environment's seed; episode 0 has that seed itself."""
    if episode == 0:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(episode,)).generate_state(1)[0] >> 1)


def seed_global_rngs(seed: int) -> None:
    """Seed the global generators of Python, NumPy and, if it is imported, torch with a 32-bit seed."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(seed)


@contextlib.contextmanager
def preserve_global_rngs() -> Iterator[None]:
    """Restore the state of the global generators on exit."""
    torch = sys.modules.get("torch")
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch_state = torch.default_generator.get_state() if torch else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        if torch and torch_state is not None:
            torch.default_generator.set_state(torch_state)


class GlobalRngs:
    """Separate states of the global generators for each of several environments, which draw from them in turn.

    Switching takes about 20 microseconds, most of it for Python's generator.
    """

    def __init__(self, count: int) -> None:
        self._python = [random.getstate()] * count
        self._numpy = [np.random.MT19937(0) for _ in range(count)]
        self._torch: list[Any] = [None] * count
        self._active = 0

    def activate(self, index: int) -> None:
        """Let the global generators continue with the state of environment `index`."""
        # This drops the second of NumPy's pair of normal samples, so it must happen before every step.
        np.random.set_bit_generator(self._numpy[index])  # type: ignore[attr-defined]
        if index == self._active:
            return
        torch = sys.modules.get("torch")
        self._python[self._active] = random.getstate()
        random.setstate(self._python[index])
        if torch:
            self._torch[self._active] = torch.default_generator.get_state()
            if self._torch[index] is not None:
                torch.default_generator.set_state(self._torch[index])
        self._active = index
