"""Environments that are restored as in a resumed run."""

import copy

import numpy as np

from milozero import environments
from milozero.agents.episodes import EpisodeLog
from milozero.agents.rollout import rollout_generator
from tests.support.fakes import RandomAgent

FIELDS = ("obs", "actions", "rewards", "terminated", "truncated", "mask", "episodes")


class Agent(RandomAgent):
    """Acts at random, also in discrete actions."""

    def __init__(self, env):
        super().__init__(*env.action_shape)
        self.discrete = env.discrete

    def sample_actions(self, obs, noise):
        return (noise[..., 0] > 0).astype(np.int64) if self.discrete else noise


def start(env, state=None, iteration=0, steps=21):
    """Return rollouts of `env` and its episodes, restored from `state`."""
    log = EpisodeLog(env.num_envs)
    if state:
        log.load_state_dict(state, env, 10_000)
    assert log.start_envs(env, 1, 4) == ""
    return rollout_generator(env, Agent(env), steps * env.num_envs, 1, 4, number=iteration, episodes=log), log


def save_after(count, env, steps=21):
    """Return rollouts after the first `count` ones, and the state then."""
    rollouts, log = start(env, steps=steps)
    for _ in range(count):
        next(rollouts)
    return rollouts, log.state_dict(env)


def check_restored(env_id, num_envs, stop, steps=21, compared=3):
    """Restore environments after `stop` rollouts, and compare the next ones with those of the originals."""
    original, state = save_after(stop, environments.make_vector_env(env_id, num_envs), steps)
    expected = [copy.deepcopy(next(original)) for _ in range(compared)]
    resumed, _ = start(environments.make_vector_env(env_id, num_envs), state, stop, steps)
    for rollout in expected:
        actual = next(resumed)
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(actual, field), getattr(rollout, field), err_msg=field)
