"""Steps of a policy and of an expert, random but alike in every test, and what is asked of every agent."""

import numpy as np
from gymnasium import spaces

from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import Episode

T, N, SIZE = 16, 4, 3
BOX = spaces.Box(-1.0, 1.0, (2,))


def rollout(seed=0, terminated=()):
    """Return a rollout of random steps whose rewards a policy must never see; dead rows follow the ends."""
    rng = np.random.default_rng(seed)
    ends = np.zeros((T, N), bool)
    mask = np.ones((T, N), bool)
    for t, n in terminated:
        ends[t, n] = True
        mask[t + 1 : t + 2, n] = False
    return Rollout(
        obs=rng.normal(size=(T + 1, N, SIZE)).astype(np.float32),
        actions=rng.normal(size=(T, N, 2)).astype(np.float32),
        rewards=np.full((T, N), 1e6, np.float32),
        terminated=ends,
        truncated=np.zeros((T, N), bool),
        mask=mask,
        episodes=[],
    )


def expert(length=50, terminated=False):
    rng = np.random.default_rng(7)
    obs, actions = rng.normal(1.0, 1.0, (length + 1, SIZE)), rng.uniform(-0.2, 0.2, (length, 2))
    return Episode(obs, actions, np.ones(length), terminated, not terminated)


def check_resume(make):
    """Let an agent learn on, and one of ``make(iteration)`` that takes over its state: both learn the same bits."""
    straight = make(0)
    for k in range(3):
        straight.update(rollout(k, [(3, 1)]), 0.0)
    resumed = make(3)
    resumed.load_state_dict(straight.state_dict())
    resumed.load_rank_state_dict(straight.rank_state_dict())
    for k in (3, 4):
        one, two = (agent.update(rollout(k, [(5, 0)]), 0.5) for agent in (straight, resumed))
        np.testing.assert_equal(one, two)
    assert straight.parameter_hash() == resumed.parameter_hash()
