"""Evaluation episodes of a simple environment."""

import math

import numpy as np
import pytest

from milozero.evaluation.episodes import (
    Limits,
    choose_max_steps,
    episode_seeds,
    evaluate_policy,
    run_episode,
    share_episodes,
    summarize_returns,
)
from milozero.helpers.comm import Comm
from milozero.helpers.errors import NonFiniteError
from milozero.helpers.seeding import Purpose
from tests.support import user_envs
from tests.support.fakes import on_workers


class Still:
    def predict(self, obs):
        return np.zeros(2)


def test_episode_holds_one_more_observation_than_actions():
    episode = run_episode(Still(), user_envs.Bounded(), seed=0)
    assert (episode.obs.shape, episode.actions.shape, episode.rewards.shape) == ((11, 2), (10, 2), (10,))
    assert episode.terminated


def test_agent_acts_on_each_observation_except_the_last():
    agent, seen = Still(), []
    agent.predict = lambda obs: seen.append(obs) or np.zeros(2)
    episode = run_episode(agent, user_envs.Bounded(), seed=0)
    assert len(np.unique(episode.obs, axis=0)) == 11
    np.testing.assert_array_equal(seen, episode.obs[:-1])


def test_agent_sees_float32_and_the_episode_keeps_the_environments_type():
    env, agent, seen = user_envs.Bounded(), Still(), []
    env._obs = lambda: env.np_random.uniform(-1, 1, 2)
    agent.predict = lambda obs: seen.append(obs) or np.zeros(2)
    episode = run_episode(agent, env, seed=0)
    assert episode.obs.dtype == np.float64
    assert {obs.dtype for obs in seen} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(seen, episode.obs[:-1].astype(np.float32))


def test_observation_that_is_infinite_in_float32_is_refused_as_in_training():
    env = user_envs.Bounded()
    env._obs = lambda: np.array([0.0, 1e39])
    with pytest.raises(NonFiniteError, match=r"infinite observation \(evaluation episode with seed 0, step 0\)"):
        run_episode(Still(), env, seed=0)


class Noisy(Still):
    def sample_action(self, obs, rng):
        return 0.1 * rng.standard_normal(2)  # within the bounds


def test_sampled_actions_of_an_episode_depend_only_on_its_seed():
    def actions(seed, **how):
        return run_episode(Noisy(), user_envs.SameArray(), seed, stochastic=True, **how).actions

    np.testing.assert_array_equal(actions(3), actions(3))
    assert not np.isclose(actions(3), actions(4)).any()
    assert not run_episode(Noisy(), user_envs.SameArray(), seed=3).actions.any()


def test_evaluation_by_one_worker_equals_that_of_several():
    def evaluate(comm):
        return evaluate_policy(Noisy(), user_envs.Bounded(), 0, 5, comm, stochastic=True)

    assert on_workers(3, evaluate) == [evaluate(Comm())] * 3


def test_episodes_of_different_purposes_have_different_seeds():
    purposes = (Purpose.EVALUATION, Purpose.TEST, Purpose.SAVED_EPISODES, Purpose.ENVIRONMENT)
    seeds = {purpose: set(episode_seeds(5, 1000, purpose)) for purpose in purposes}
    assert len(set().union(*seeds.values())) == 4000


def test_summary_of_returns_equals_numbers_worked_by_hand():
    assert summarize_returns([2.0, 4.0, 9.0]) == pytest.approx(
        {"mean": 5.0, "std": 26**0.5 / 3**0.5, "min": 2, "max": 9}
    )
    assert all(math.isnan(value) for value in summarize_returns([]).values())


def test_episode_is_kept_if_the_environment_reuses_its_arrays():
    agent = Still()
    agent.predict = lambda obs: np.full(2, 0.5)
    episode = run_episode(agent, user_envs.SameArray(), seed=0)
    np.testing.assert_array_equal(episode.obs[:, 0], np.arange(11))
    np.testing.assert_array_equal(episode.actions, np.full((10, 2), 0.5))


def test_episode_without_an_end_is_cut_off():
    limits = Limits(max_steps=25)
    episode = run_episode(Still(), user_envs.Endless(), seed=0, limits=limits)
    assert (len(episode), episode.terminated, episode.truncated) == (25, False, True)
    assert limits.has_cut_off(episode)
    assert not limits.has_cut_off(run_episode(Still(), user_envs.Bounded(), seed=0, limits=limits))


@pytest.mark.parametrize(
    ("time_limit", "max_steps", "expected"),
    [(None, None, 10_000), (None, 50, 50), (200, None, math.inf), (200, 50, 50), (200, 500, math.inf)],
)
def test_episodes_of_environments_without_a_time_limit_are_cut_off_by_default(time_limit, max_steps, expected):
    assert choose_max_steps(max_steps, time_limit) == expected


def test_interrupted_evaluation_keeps_the_finished_episodes_of_all_workers():
    def run(comm):
        steps = iter(range(25))  # of rank 0, until it is asked to stop
        limits = Limits(should_stop=lambda: comm.rank == 0 and next(steps, None) is None)
        return share_episodes(
            lambda k, seed: (k, len(run_episode(Still(), user_envs.Bounded(), seed, limits=limits))), 0, 8, comm
        )

    kept = [(0, 10), (1, 10), (2, 10), (3, 10), (5, 10), (7, 10)]
    assert on_workers(2, run) == [kept, kept]


@pytest.mark.parametrize(("part", "message"), [(0, "observation"), (1, "reward")])
def test_non_finite_number_is_reported_with_its_step(part, message):
    env = user_envs.Bounded()
    step = env.step

    def broken_step(action):
        values = list(step(action))
        values[part] = values[part] * np.nan if env.left == 6 else values[part]
        return tuple(values)

    env.step = broken_step
    where = "step 4" if part == 0 else "step 3"
    with pytest.raises(NonFiniteError, match=f"infinite {message} .evaluation episode with seed 7, {where}"):
        run_episode(Still(), env, seed=7)


def test_non_finite_action_is_reported():
    agent = Still()
    agent.predict = lambda obs: np.full(2, np.nan)
    with pytest.raises(NonFiniteError, match="infinite action"):
        run_episode(agent, user_envs.Bounded(), seed=0)
