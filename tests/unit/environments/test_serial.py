"""Environments that step one after another: seeds, autoreset, truncation and random generators."""

import random

import gymnasium
import numpy as np
import pytest
import torch

from milozero import environments
from milozero.environments.serial import SerialVector
from milozero.environments.standard_env import StandardEnv
from milozero.helpers.errors import UserError
from milozero.helpers.seeding import make_episode_seed

ACTIONS = np.zeros((2, 1), np.float32)


class Seeded(gymnasium.Env):
    """Observes its seed and the number of steps; environment i ends its episodes after ``lengths[i]`` steps."""

    observation_space = gymnasium.spaces.Box(0, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length=10**9, terminates=True):
        self.length, self.terminates = length, terminates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.time = seed, 0
        return np.array([seed, 0.0]), {}

    def step(self, action):
        self.time += 1
        ends = self.time == self.length
        return np.array([self.seed, self.time]), 2.0, ends and self.terminates, ends and not self.terminates, {}


def make(*envs, **options):
    vector = SerialVector([StandardEnv(env) for env in envs], **options)
    vector.seed(range(5, 5 + len(envs)))
    return vector


def test_each_episode_has_a_seed_of_its_own():
    vector = make(Seeded(2), Seeded(3, terminates=False))
    assert vector.reset()[:, 0].tolist() == [5, 6]
    seen, flags, rewards = [], [], []
    for _ in range(7):
        obs, reward, terminated, truncated = vector.step(ACTIONS)
        seen.append(obs[:, 0].tolist())
        rewards.append(reward.tolist())
        flags.append([terminated.tolist(), truncated.tolist()])
    seeds = [[make_episode_seed(seed, episode) for episode in range(3)] for seed in (5, 6)]
    assert [row[0] for row in seen] == [seeds[0][0]] * 2 + [seeds[0][1]] * 3 + [seeds[0][2]] * 2
    assert [row[1] for row in seen] == [seeds[1][0]] * 3 + [seeds[1][1]] * 4
    assert rewards == [[2, 2], [2, 2], [0, 2], [2, 0], [2, 2], [0, 2], [2, 2]]
    assert flags[1] == [[True, False], [False, False]]
    assert flags[2] == [[False, False], [False, True]]
    assert len({seed for pair in seeds for seed in pair}) == 6


def test_first_episode_has_the_seed_itself_and_later_ones_31_bits():
    assert make_episode_seed(123, 0) == 123
    seeds = [make_episode_seed(seed, episode) for seed in range(20) for episode in range(1, 50)]
    assert len(set(seeds)) == len(seeds)
    assert 2**30 < max(seeds) < 2**31


def test_endless_episodes_are_truncated_after_max_steps():
    vector = make(Seeded(), Seeded(4), max_steps=4)
    vector.reset()
    steps = [vector.step(ACTIONS)[2:] for _ in range(6)]
    assert [[flags.tolist() for flags in step] for step in steps[2:5]] == [
        [[False, False], [False, False]],
        [[False, True], [True, False]],  # an episode that terminates there is not truncated
        [[False, False], [False, False]],
    ]


@pytest.mark.parametrize(("limit", "expected"), [(None, 100_000), (200, None), (150_000, None), (10**7, 100_000)])
def test_only_environments_without_a_usable_time_limit_are_truncated(monkeypatch, limit, expected):
    spec = gymnasium.envs.registration.EnvSpec("Seeded-v0", Seeded, max_episode_steps=limit)
    monkeypatch.setitem(gymnasium.registry, "Seeded-v0", spec)
    assert environments.make_vector_env("Seeded-v0", 2).max_steps == expected


def test_environments_with_different_spaces_are_refused(monkeypatch):
    made = []

    class Growing(Seeded):
        def __init__(self):
            made.append(self)
            self.observation_space = gymnasium.spaces.Box(0, np.inf, (1 + len(made),), np.float64)

        def reset(self, *, seed=None, options=None):
            return np.zeros(self.observation_space.shape), {}

    spec = gymnasium.envs.registration.EnvSpec("Growing-v0", Growing)
    monkeypatch.setitem(gymnasium.registry, "Growing-v0", spec)
    with pytest.raises(UserError, match="Growing-v0: its spaces differ between instances"):
        environments.make_vector_env("Growing-v0", 2)


def test_global_generators_have_one_state_per_environment():
    """So that one environment can be restored without the others."""

    class Drawing(Seeded):
        def step(self, action):
            draws = random.random(), np.random.randn(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002
            return np.array(draws[:2]), sum(draws[2:]), False, False, {}

    vector, restored = make(Drawing(), Drawing()), make(Drawing(), Drawing())
    vector.reset()
    together = [vector.step(ACTIONS)[:2] for _ in range(5)]
    drawn = {(*obs[n], rewards[n]) for obs, rewards in together for n in (0, 1)}
    assert len(drawn) == 10
    for n in (1, 0):
        restored.start_episode(n, 0)
        for obs, rewards in together:
            actual, reward, *_ = restored.step_single(n, ACTIONS[n])
            np.testing.assert_array_equal(actual, obs[n])
            assert reward == rewards[n]
