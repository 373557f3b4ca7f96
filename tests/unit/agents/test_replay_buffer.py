"""The replay buffer, against a list of transitions."""

import itertools

import numpy as np
import pytest

from milozero.agents.replay_buffer import ReplayBuffer, Steps
from milozero.agents.rollout import rollout_generator
from tests.support.fakes import CountingEnv, RandomAgent

GAMMA = 0.9


def fill(capacity, lengths, rollout_len, count):
    """Return a buffer of rollouts, and every step (row, environment) → (obs, action, reward, next obs, ends)."""
    env = CountingEnv(lengths, action_size=2)
    buffer, steps = ReplayBuffer(capacity, len(lengths), 1, 2), {}
    rollouts = rollout_generator(env, RandomAgent(2), rollout_len, seed=0)
    row = 0
    for rollout in itertools.islice(rollouts, count):
        rollout.rewards[:] = np.random.default_rng(row).normal(size=rollout.rewards.shape)
        buffer.add(Steps(*(getattr(rollout, name) for name in Steps._fields)))
        for t in range(len(rollout.rewards)):
            for n in range(len(lengths)):
                if rollout.mask[t, n]:
                    ends = bool(rollout.terminated[t, n]), bool(rollout.truncated[t, n])
                    values = rollout.obs[t, n], rollout.actions[t, n], rollout.rewards[t, n], rollout.obs[t + 1, n]
                    steps[row, n] = (*(np.array(value) for value in values), *ends)
            row += 1
    return buffer, steps, row


def transition(steps, row, n, n_steps, end):
    """Return the expected transition that starts with a step, by the definition of n-step returns."""
    obs, action, *_ = steps[row, n]
    total, discount = 0.0, 1.0
    for k in range(n_steps):
        _, _, reward, next_obs, terminated, truncated = steps[row + k, n]
        total, discount = total + discount * reward, discount * GAMMA
        if terminated or truncated or row + k + 1 == end:
            break
    return obs, action, total, next_obs, 0.0 if terminated else discount


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize(
    ("capacity", "rollout_len", "count"), [(1000, 12, 5), (60, 12, 9), (60, 12, 10), (30, 90, 2), (3, 3, 7)]
)
def test_samples_are_the_stored_steps_and_no_others(capacity, rollout_len, count, n_steps):
    """The buffer is not full, has wrapped around, or is shorter than a rollout; episodes terminate or truncate."""
    lengths = [4, 3, 7]
    buffer, steps, end = fill(capacity, lengths, rollout_len, count)
    oldest = max(end - capacity // 3, 0)
    stored = [key for key in steps if key[0] >= oldest]
    batch = buffer.sample(4000, np.random.default_rng(1), GAMMA, n_steps)
    expected = {}
    for row, n in stored:
        obs, action, reward, next_obs, discount = transition(steps, row, n, n_steps, end)
        expected[tuple(action)] = (*obs, reward, *next_obs, discount)
    drawn = {}
    for obs, action, reward, next_obs, discount in zip(*batch, strict=True):
        drawn[tuple(action)] = (*obs, reward, *next_obs, discount)
    assert drawn.keys() == expected.keys()  # each action is unique
    for action, values in drawn.items():
        assert values == pytest.approx(expected[action], abs=1e-5)


def test_steps_are_drawn_uniformly():
    buffer, steps, end = fill(60, [4, 3, 7], 12, 9)
    stored = [key for key in steps if key[0] >= end - 20]
    actions = buffer.sample(40_000, np.random.default_rng(2), GAMMA).actions
    _, counts = np.unique(actions[:, 0], return_counts=True)
    assert len(counts) == len(stored)
    expected = 40_000 / len(stored)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_truncated_episodes_are_bootstrapped_and_terminated_ones_are_not():
    buffer, steps, _ = fill(1000, [2, 2], 8, 2)
    batch = buffer.sample(500, np.random.default_rng(0), GAMMA)
    terminated = {tuple(value[1]) for value in steps.values() if value[4]}
    truncated = {tuple(value[1]) for value in steps.values() if value[5]}
    seen = {tuple(action): discount for action, discount in zip(batch.actions, batch.discounts, strict=True)}
    assert terminated
    assert truncated
    assert all(seen[action] == 0 for action in terminated)
    assert all(seen[action] == np.float32(GAMMA) for action in truncated)


def test_million_steps_of_halfcheetah_use_100_megabytes():
    buffer = ReplayBuffer(1_000_000, 16, 17, 6)
    assert sum(array.nbytes for array in buffer.allocate()) < 100e6


def test_empty_and_too_small_buffers_are_refused():
    with pytest.raises(ValueError, match="no steps"):
        ReplayBuffer(10, 2, 1, 1).sample(1, np.random.default_rng(0), GAMMA)
    with pytest.raises(ValueError, match="too small"):
        ReplayBuffer(3, 4, 1, 1)


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_broken_episodes_are_bootstrapped_from_their_last_observation(n_steps):
    """Nine steps of two environments, whose episodes do not end; then seven of others, which observe ≥ 1000."""

    def steps(first, count):
        obs = np.arange(first, first + count + 1, dtype=np.float32)[:, None, None].repeat(2, 1)
        flags = [np.zeros((count, 2), bool)] * 2
        return Steps(obs, np.zeros((count, 2, 1), np.float32), np.ones((count, 2), np.float32), *flags, ~flags[0])

    buffer = ReplayBuffer(200, 2, 1, 1)
    buffer.break_episodes()  # an empty buffer has none
    assert buffer.size == 0
    buffer.add(steps(0, 9))
    buffer.break_episodes()
    buffer.add(steps(1000, 7))
    batch = buffer.sample(2000, np.random.default_rng(0), GAMMA, n_steps)
    pairs = set(zip(batch.obs[:, 0].tolist(), batch.next_obs[:, 0].tolist(), strict=True))
    expected = {(float(t), float(min(t + n_steps, 9))) for t in range(9)}
    expected |= {(1000.0 + t, 1000.0 + min(t + n_steps, 7)) for t in range(7)}
    assert pairs == expected
    last = batch.obs[:, 0] == 8
    np.testing.assert_allclose(batch.discounts[last], GAMMA, rtol=1e-6)
    assert buffer.size == 2 * 17  # with one row of padding


def test_buffer_of_padding_steps_is_not_sampled():
    buffer = ReplayBuffer(8, 2, 1, 1)
    zeros = [np.zeros((1, 2), bool)] * 3
    buffer.add(Steps(np.ones((2, 2, 1), np.float32), np.ones((1, 2, 1), np.float32), np.ones((1, 2)), *zeros))
    assert buffer.size == 2
    assert not buffer.can_sample
