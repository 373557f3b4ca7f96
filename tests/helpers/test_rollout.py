import itertools

import numpy as np
import pytest
from fakes import CountingEnv, IdleAgent

from helpers.rollout import rollout_generator


def test_step_after_an_episode_is_dead_and_the_row_before_holds_its_final_observation():
    env = CountingEnv([2, 3])
    rollout = next(rollout_generator(env, IdleAgent(), 12, seed=0))
    assert rollout.obs[:, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert rollout.valid[:, 0].tolist() == [True, True, False, True, True, False]
    assert rollout.terminated[:, 0].tolist() == [False, True, False, False, True, False]
    assert rollout.truncated[:, 1].tolist() == [False, False, True, False, False, False]
    assert not rollout.terminated[:, 1].any()


def test_dead_first_row_is_known_in_the_next_rollout():
    rollouts = rollout_generator(CountingEnv([2]), IdleAgent(), 2, seed=0)
    assert next(rollouts).valid.all()
    assert next(rollouts).valid[:, 0].tolist() == [False, True]


@pytest.mark.parametrize("rollout_len", [3, 7, 30])
def test_episode_returns_are_raw_and_whole_whatever_the_rollout_length(rollout_len):
    rollouts = rollout_generator(CountingEnv([5]), IdleAgent(), rollout_len, seed=0)
    episodes = [e for r in itertools.islice(rollouts, 60 // rollout_len + 1) for e in r.episodes]
    assert len(episodes) >= 9
    assert all(e.ret == 5.0 and e.length == 5 for e in episodes)


def test_noise_belongs_to_the_environment_not_to_the_worker():
    both = next(rollout_generator(CountingEnv([9, 9]), IdleAgent(), 10, seed=3)).actions
    second = next(rollout_generator(CountingEnv([9]), IdleAgent(), 5, seed=3, first_env=1)).actions
    np.testing.assert_array_equal(both[:, 1], second[:, 0])
    assert not np.array_equal(both[:, 0], both[:, 1])


def test_non_finite_observation_stops_the_run_and_is_named():
    env = CountingEnv([5])
    step = env.step
    env.step = lambda a: (np.full((1, 1), np.nan), *step(a)[1:])
    with pytest.raises(FloatingPointError, match="observation"):
        next(rollout_generator(env, IdleAgent(), 4, seed=0))
