"""One seed, many independent streams: each purpose, environment and fresh start draws from its own.

Streams belong to environments, not to workers: environment 3 sees the same noise whether it is the fourth of
one worker or the second of another, so the layout of a run does not change what it samples.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a random stream is for."""

    PARAMETERS = 0  # the same on every worker
    ENVIRONMENT = 1  # by global environment index
    NOISE = 2  # by global environment index
    SHUFFLE = 3  # by rank
    EVALUATION = 4  # by episode
    DEMONSTRATIONS = 5  # which of their steps are learned from; the same on every worker
    DISCRIMINATOR = 6  # by rank


def _sequence(seed: int, purpose: Purpose, index: int, iteration: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), index, iteration))


def generator(seed: int, purpose: Purpose, index: int = 0, iteration: int = 0) -> np.random.Generator:
    """Return the random generator of stream (`seed`, `purpose`, `index`), as it starts anew at `iteration`."""
    return np.random.default_rng(_sequence(seed, purpose, index, iteration))


def integer(seed: int, purpose: Purpose, index: int = 0, iteration: int = 0) -> int:
    """Return a 31-bit seed for libraries that want one."""
    return int(_sequence(seed, purpose, index, iteration).generate_state(1)[0] >> 1)
