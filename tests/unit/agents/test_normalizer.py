"""The observation normalizer and the reward scaler."""

import numpy as np
import pytest

from milozero.agents.normalizer import ObservationNormalizer, RewardScaler, RunningMoments
from milozero.helpers.comm import Comm
from tests.support.fakes import on_workers


def test_moments_over_two_workers_equal_those_of_one_with_all_samples():
    data = np.random.default_rng(0).normal(1e4, 2.0, (60, 3))

    def learn(comm):
        moments = RunningMoments((3,))
        moments.update(data[:10] if comm.rank == 0 else data[10:30], comm)
        moments.update(data[30:60] if comm.rank == 0 else data[:0], comm)
        return moments

    first, second = on_workers(2, learn)
    assert (first.mean == second.mean).all()
    assert (first.squares == second.squares).all()
    np.testing.assert_allclose(first.mean, data.mean(0), rtol=1e-12)
    np.testing.assert_allclose(first.std, data.std(0), rtol=1e-6)
    assert first.count == 60


def test_normalizer_only_changes_in_update():
    normalizer = ObservationNormalizer(2, clip=10.0, enabled=True)
    obs = np.array([[3.0, 5.0], [5.0, 9.0]])
    np.testing.assert_array_equal(normalizer(obs), obs)
    normalizer.update(obs, Comm())
    np.testing.assert_allclose(normalizer(obs), [[-1, -1], [1, 1]], rtol=1e-6)


@pytest.mark.parametrize("enabled", [True, False])
def test_float64_observations_are_normalized_as_float32(enabled):
    normalizer = ObservationNormalizer(2, 10.0, enabled)
    obs = np.random.default_rng(0).normal(1000.0, 0.1, (50, 2))
    normalizer.update(obs, Comm())
    np.testing.assert_array_equal(normalizer(obs), normalizer(obs.astype(np.float32)))
    assert normalizer(obs).dtype == np.float32


def test_normalizer_is_restored_from_its_state_dict():
    normalizer, other = (ObservationNormalizer(2, 10.0, True) for _ in range(2))
    normalizer.update(np.random.default_rng(0).normal(3, 2, (50, 2)), Comm())
    other.load_state_dict(normalizer.state_dict())
    obs = np.ones((4, 2))
    np.testing.assert_array_equal(normalizer(obs), other(obs))


def test_reward_scaler_divides_by_the_std_of_the_return_and_keeps_the_mean():
    rewards = np.array([[2.0], [4.0], [2.0]])
    done = np.array([[False], [True], [False]])
    scaler = RewardScaler(1, gamma=0.5, clip=10.0, enabled=True)
    scaled = scaler(rewards, done, np.ones((3, 1), bool), Comm())
    discounted = np.array([2.0, 0.5 * 2 + 4, 2.0])  # restarts from 0 after the episode
    np.testing.assert_allclose(scaled[:, 0], rewards[:, 0] / discounted.std(), rtol=1e-6)
    assert scaler.returns == [2.0]


def test_padding_steps_do_not_count_in_the_reward_scale():
    rewards, done = np.array([[1.0], [0.0], [3.0]]), np.array([[True], [False], [False]])
    mask = np.array([[True], [False], [True]])
    scaler = RewardScaler(1, gamma=0.9, clip=10.0, enabled=True)
    scaler(rewards, done, mask, Comm())
    assert scaler.moments.count == 2
    assert scaler.moments.mean == 2.0
