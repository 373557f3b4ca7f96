"""Rollouts: padding steps, episode returns, noise and non-finite values."""

import itertools

import numpy as np
import pytest

from milozero.agents.rollout import rollout_generator
from milozero.helpers.errors import NonFiniteError
from tests.support.fakes import CountingEnv, RandomAgent


def test_step_after_an_episode_is_padding_and_follows_the_final_observation():
    env = CountingEnv([2, 3])
    rollout = next(rollout_generator(env, RandomAgent(), 12, seed=0))
    assert rollout.obs[:, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert rollout.mask[:, 0].tolist() == [True, True, False, True, True, False]
    assert rollout.terminated[:, 0].tolist() == [False, True, False, False, True, False]
    assert rollout.truncated[:, 1].tolist() == [False, False, True, False, False, False]
    assert not rollout.terminated[:, 1].any()


def test_padding_step_may_be_the_first_of_the_next_rollout():
    rollouts = rollout_generator(CountingEnv([2]), RandomAgent(), 2, seed=0)
    assert next(rollouts).mask.all()
    assert next(rollouts).mask[:, 0].tolist() == [False, True]


@pytest.mark.parametrize("rollout_len", [3, 7, 30])
def test_episode_returns_are_unscaled_and_complete_for_any_rollout_length(rollout_len):
    rollouts = rollout_generator(CountingEnv([5]), RandomAgent(), rollout_len, seed=0)
    episodes = [e for r in itertools.islice(rollouts, 60 // rollout_len + 1) for e in r.episodes]
    assert len(episodes) >= 9
    assert all(e.return_ == 5.0 and e.length == 5 for e in episodes)


def test_noise_depends_on_the_environment_not_on_the_worker():
    both = next(rollout_generator(CountingEnv([9, 9]), RandomAgent(), 10, seed=3)).actions
    second = next(rollout_generator(CountingEnv([9]), RandomAgent(), 5, seed=3, first_env=1)).actions
    np.testing.assert_array_equal(both[:, 1], second[:, 0])
    assert not np.array_equal(both[:, 0], both[:, 1])


def test_noise_depends_on_the_iteration_not_on_earlier_ones():
    rollouts = rollout_generator(CountingEnv([9]), RandomAgent(), 5, seed=3)
    first, second = (next(rollouts).actions.copy() for _ in range(2))
    later = next(rollout_generator(CountingEnv([9]), RandomAgent(), 5, seed=3, number=1)).actions
    np.testing.assert_array_equal(later, second)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("part", "message"),
    [(0, "environment returned a NaN or infinite observation"), (1, "environment returned a NaN or infinite reward")],
)
def test_nonfinite_error_names_the_first_value_with_its_step_and_environment(part, message):
    env = CountingEnv([9, 9, 9])
    step, calls = env.step, []

    def broken_step(actions):
        calls.append(1)
        result = [np.array(values, float) for values in step(actions)]
        if len(calls) == 3:
            result[part][1] = np.inf
        return tuple(result[:2]) + tuple(values.astype(bool) for values in result[2:])

    env.step = broken_step
    where = "step 3" if part == 0 else "step 2"  # an observation belongs to the step after it
    with pytest.raises(NonFiniteError, match=message) as caught:
        next(rollout_generator(env, RandomAgent(), 18, seed=0, first_env=40))
    assert f"(environment 41, {where} of the rollout)" in str(caught.value)


def test_nonfinite_action_raises_before_the_environment_steps():
    env, stepped = CountingEnv([9, 9]), []
    step = env.step
    env.step = lambda actions: stepped.append(actions.copy()) or step(actions)
    agent = RandomAgent()
    agent.sample_actions = lambda obs, noise: np.where(obs == 2, np.nan, noise)
    with pytest.raises(NonFiniteError, match="the policy returned a NaN or infinite action") as caught:
        next(rollout_generator(env, agent, 12, seed=0))
    assert "(environment 0, step 2 of the rollout)" in str(caught.value)
    assert np.isfinite(stepped).all()
    assert len(caught.value.evidence["actions"]) == 3


def test_agent_acts_on_the_float32_observations_that_it_learns_from():
    env, agent, seen = CountingEnv([4, 9]), RandomAgent(), []
    reset, step = env.reset, env.step
    env.reset = lambda seeds: reset(seeds) + 0.1  # float64, as of most simulators
    env.step = lambda actions: (step(actions)[0] + np.float64(0.1), *step(actions)[1:])
    agent.sample_actions = lambda obs, noise: seen.append(obs.copy()) or noise
    rollouts = rollout_generator(env, agent, 12, seed=0)
    for _ in range(2):
        rollout = next(rollouts)
        assert {obs.dtype for obs in seen} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(seen, rollout.obs[:-1])
        seen.clear()


def test_nonfinite_observation_raises():
    env = CountingEnv([5])
    step = env.step
    env.step = lambda a: (np.full((1, 1), np.nan), *step(a)[1:])
    with pytest.raises(NonFiniteError, match="observation"):
        next(rollout_generator(env, RandomAgent(), 4, seed=0))
