"""Random rollouts and demonstrations, the same in every test, and a check that every agent must pass."""

import numpy as np
from gymnasium import spaces

from milozero.agents.base import AgentContext
from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.helpers.comm import Comm

T, N, SIZE = 16, 4, 3
BOX = spaces.Box(-1.0, 1.0, (2,))


def rollout(seed=0, terminated=()):
    """Return a random rollout with padding steps after terminations, and large rewards that imitation must ignore."""
    rng = np.random.default_rng(seed)
    done = np.zeros((T, N), bool)
    mask = np.ones((T, N), bool)
    for t, n in terminated:
        done[t, n] = True
        mask[t + 1 : t + 2, n] = False
    return Rollout(
        obs=rng.normal(size=(T + 1, N, SIZE)).astype(np.float32),
        actions=rng.normal(size=(T, N, 2)).astype(np.float32),
        rewards=np.full((T, N), 1e6, np.float32),
        terminated=done,
        truncated=np.zeros((T, N), bool),
        mask=mask,
        episodes=[],
    )


def expert(length=50, terminated=False):
    rng = np.random.default_rng(7)
    obs, actions = rng.normal(1.0, 1.0, (length + 1, SIZE)), rng.uniform(-0.2, 0.2, (length, 2))
    return Episode(obs, actions, np.ones(length), terminated, not terminated)


def imitation_context(comm=None, demos=None, iteration=0, compile=False, imitation=None):
    """Return the context of an agent with a discriminator; by default, one terminated demonstration."""
    return AgentContext(
        comm or Comm(),
        seed=1,
        iteration=iteration,
        num_envs=N,
        demos=[expert(terminated=True)] if demos is None else demos,
        imitation=imitation or ImitationConfig(d_perception_stack="mlp_16"),
        compile=compile,
    )


def check_resume(make):
    """Check that an agent of ``make(iteration)`` learns the same bits after it is restored from a checkpoint."""
    original = make(0)
    for k in range(3):
        original.update(rollout(k, [(3, 1)]), 0.0)
    resumed = make(3)
    resumed.load_state_dict(original.state_dict())
    resumed.load_rank_state_dict(original.rank_state_dict())
    for k in (3, 4):
        expected, actual = (agent.update(rollout(k, [(5, 0)]), 0.5) for agent in (original, resumed))
        np.testing.assert_equal(expected, actual)
    assert original.parameter_hash() == resumed.parameter_hash()
