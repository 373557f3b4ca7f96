"""Episodes of an expert."""

import numpy as np

from milozero.demonstrations import dataset as demos


def episode(length=4, truncated=True):
    rng = np.random.default_rng(length)
    obs, actions = rng.normal(size=(length + 1, 3)), rng.normal(size=(length, 2))
    return demos.Episode(obs, actions, np.arange(length, dtype=float), not truncated, truncated)
