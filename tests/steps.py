"""Steps of a policy and of an expert, random but alike in every test."""

import numpy as np
from gymnasium import spaces

from helpers.demos import Episode
from helpers.rollout import Rollout

T, N, SIZE = 16, 4, 3
BOX = spaces.Box(-1.0, 1.0, (2,))


def rollout(seed=0, terminated=()):
    """Return a rollout of random steps whose rewards a policy must never see; dead rows follow the ends."""
    rng = np.random.default_rng(seed)
    ends = np.zeros((T, N), bool)
    valid = np.ones((T, N), bool)
    for t, n in terminated:
        ends[t, n] = True
        valid[t + 1 : t + 2, n] = False
    return Rollout(
        obs=rng.normal(size=(T + 1, N, SIZE)).astype(np.float32),
        actions=rng.normal(size=(T, N, 2)).astype(np.float32),
        rewards=np.full((T, N), 1e6, np.float32),
        terminated=ends,
        truncated=np.zeros((T, N), bool),
        valid=valid,
        episodes=[],
    )


def expert(length=50, terminated=False):
    rng = np.random.default_rng(7)
    obs, actions = rng.normal(1.0, 1.0, (length + 1, SIZE)), rng.uniform(-0.2, 0.2, (length, 2))
    return Episode(obs, actions, np.ones(length), terminated, not terminated)
