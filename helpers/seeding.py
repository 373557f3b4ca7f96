"""Independent random streams from a single seed, one per purpose, environment and reset.

Streams belong to environments, not to workers: environment 3 gets the same noise as the fourth environment of one
worker or the second of another. So the number of workers does not change what a run samples.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The purpose of a random stream."""

    PARAMETERS = 0  # the same on every worker
    ENVIRONMENT = 1  # by global environment index
    NOISE = 2  # by global environment index
    SHUFFLE = 3  # by rank
    EVALUATION = 4  # by episode of training's evaluations
    DEMONSTRATIONS = 5  # subsampling; the same on every worker
    DISCRIMINATOR = 6  # by rank
    TEST = 7  # by episode of ``--task=eval``
    EVALUATION_NOISE = 8  # of one episode, by its own seed


def _make_sequence(seed: int, purpose: Purpose, index: int, iteration: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), index, iteration))


def make_rng(seed: int, purpose: Purpose, index: int = 0, iteration: int = 0) -> np.random.Generator:
    """Return the random generator of stream (`seed`, `purpose`, `index`), restarted at `iteration`."""
    return np.random.default_rng(_make_sequence(seed, purpose, index, iteration))


def make_seed(seed: int, purpose: Purpose, index: int = 0, iteration: int = 0) -> int:
    """Return a 31-bit seed, for libraries that take an integer."""
    return int(_make_sequence(seed, purpose, index, iteration).generate_state(1)[0] >> 1)
