"""Rollouts: padding steps, episode returns, seeds, resuming and non-finite values."""

import copy
import itertools

import numpy as np
import pytest

from milozero import environments
from milozero.agents.rollout import ReplayLog, rollout_generator
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


def test_reset_uses_new_seeds_and_truncates_episodes_without_counting_them():
    env, replay_log = CountingEnv([5, 3]), ReplayLog()
    rollouts = rollout_generator(env, RandomAgent(), 8, seed=0, reset_interval=2, replay_log=replay_log)
    first = next(rollouts)
    seeds = env.seeds
    assert not first.truncated[-1].any()
    assert (replay_log.start, len(replay_log.actions)) == (0, 1)
    second = next(rollouts)  # its last step is padding for environment 1
    assert second.obs[:, 0, 0].tolist() == [4, 5, 0, 1, 2]
    assert second.truncated[-1].tolist() == [True, False]
    assert [e.length for e in second.episodes] == [5, 3]
    assert (replay_log.start, replay_log.actions) == (2, [])
    third = next(rollouts)
    assert third.obs[0].tolist() == [[0], [0]]
    assert third.mask[:3].all()
    assert [e.length for e in third.episodes] == [3]
    assert set(env.seeds).isdisjoint(seeds)


def test_padding_step_before_a_reset_is_not_truncated():
    rollout = next(rollout_generator(CountingEnv([3]), RandomAgent(), 4, seed=0, reset_interval=1))
    assert rollout.mask[:, 0].tolist() == [True, True, True, False]
    assert not rollout.truncated[-1].any()


@pytest.mark.parametrize("env_id", ["Hopper-v5", "tests.support.user_envs:Bounded-v0"])
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 7])
def test_resumed_rollouts_equal_those_of_a_generator_that_never_stopped(env_id, stop):
    def rollouts(replay_log):
        env = environments.make_vector_env(env_id, 2)
        agent = RandomAgent(env.action_shape[0])
        return rollout_generator(env, agent, 40, seed=1, first_env=4, reset_interval=3, replay_log=replay_log)

    replay_log = ReplayLog()
    original = rollouts(replay_log)
    for _ in range(stop):
        next(original)
    resumed = rollouts(copy.deepcopy(replay_log))
    for _ in replay_log.actions:
        next(resumed)
    for _ in range(4):
        expected, actual = next(original), next(resumed)
        for field in ("obs", "actions", "rewards", "terminated", "truncated", "mask", "episodes"):
            np.testing.assert_array_equal(getattr(actual, field), getattr(expected, field))


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
