"""Sampled actions against log-probabilities and entropies of the action distributions."""

import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero.agents.nn.mlp import MLP
from milozero.agents.nn.policies import Actor, Policy, make_head
from milozero.helpers.seeding import Purpose, make_rng, make_seed

DRAWS = 200_000
BOX, DISCRETE = spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.Discrete(4)


@pytest.fixture
def gaussian():
    """A policy with three action dimensions of different means and standard deviations."""
    policy = make_policy(BOX)
    policy.head.log_std.copy_(torch.tensor([-1.2, 0.0, 0.7]))
    policy.head.output.bias.copy_(torch.tensor([0.5, -2.0, 3.0]))
    return policy


@pytest.fixture
def categorical():
    """A policy with four actions, one of them rare."""
    policy = make_policy(DISCRETE)
    policy.head.output.bias.copy_(torch.tensor([0.0, 1.5, -2.5, 0.8]))
    return policy


def make_policy(space):
    rng = torch.Generator().manual_seed(0)
    layers = MLP("mlp_8", 2, rng)
    policy = Policy(layers, make_head(space, layers.outputs, 0.0, rng)).requires_grad_(False)
    policy.head.output.weight.mul_(30.0)  # so that observations matter
    return policy


def sample(policy, obs, draws=DRAWS, seed=0):
    """Return actions for one observation, sampled as in a rollout."""
    noise = policy.head.sample_noise(np.random.default_rng(seed), draws)
    return Actor(policy).sample(np.tile(np.asarray(obs, np.float32), (draws, 1)), noise)


def evaluate_actions(policy, obs, actions):
    """Return log-probabilities and entropies of actions for one observation."""
    features = policy.policy(torch.tensor(obs, dtype=torch.float32).expand(len(actions), 2))
    return policy.head.log_prob(features, torch.as_tensor(actions))


OBSERVATIONS = pytest.mark.parametrize("obs", [(0.0, 0.0), (1.5, -1.0)], ids=str)


def probabilities(policy, obs):
    logits = policy.head.output(policy.policy(torch.tensor([obs], dtype=torch.float32)))[0].double().numpy()
    return np.exp(logits) / np.exp(logits).sum()


@OBSERVATIONS
def test_action_frequencies_equal_their_probabilities(categorical, obs):
    counts = np.bincount(sample(categorical, obs), minlength=4)
    expected = DRAWS * probabilities(categorical, obs)
    assert expected.min() > 100
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # chi-square of 3 degrees: 1 in 1000


@OBSERVATIONS
def test_categorical_log_prob_is_the_log_softmax(categorical, obs):
    log_probs, _ = evaluate_actions(categorical, obs, np.arange(4))
    np.testing.assert_allclose(log_probs.exp(), probabilities(categorical, obs), rtol=1e-5)
    assert float(log_probs.exp().sum()) == pytest.approx(1.0, abs=1e-6)


@OBSERVATIONS
def test_categorical_entropy_is_the_mean_negative_log_prob(categorical, obs):
    p = probabilities(categorical, obs)
    log_probs, entropy = evaluate_actions(categorical, obs, sample(categorical, obs))
    assert float(entropy[0]) == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)
    assert float(entropy.min()) == float(entropy.max()) > 0.0
    nll = -log_probs.double()
    assert float(nll.mean()) == pytest.approx(float(entropy[0]), abs=4 * float(nll.std()) / DRAWS**0.5)


def test_equal_logits_give_the_uniform_distribution(categorical):
    categorical.head.output.weight.zero_()
    categorical.head.output.bias.fill_(3.0)
    log_probs, entropy = evaluate_actions(categorical, (0.0, 0.0), np.arange(4))
    np.testing.assert_allclose(log_probs, -math.log(4.0), rtol=1e-6)
    assert float(entropy[0]) == pytest.approx(math.log(4.0), rel=1e-6)


def test_gumbel_noise_has_the_gumbel_distribution(categorical):
    """The Gumbel-max trick needs this distribution."""
    noise = np.sort(categorical.head.sample_noise(np.random.default_rng(3), 50_000).ravel().astype(np.float64))
    assert noise.mean() == pytest.approx(0.57722, abs=0.015)
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.04)
    assert kolmogorov_statistic(noise, np.exp(-np.exp(-noise))) < 1.95  # 1 in 1000


def kolmogorov_statistic(values, cumulative):
    """Return √n times the Kolmogorov-Smirnov statistic of sorted values and their expected CDF."""
    n = len(values)
    above, below = np.arange(1, n + 1) / n - cumulative, cumulative - np.arange(n) / n
    return max(above.max(), below.max()) * math.sqrt(n)


@OBSERVATIONS
def test_gaussian_samples_have_the_right_mean_and_std(gaussian, obs):
    actions = sample(gaussian, obs).astype(np.float64)
    mean = gaussian.head.output(gaussian.policy(torch.tensor([obs], dtype=torch.float32)))[0].double().numpy()
    std = np.exp([-1.2, 0.0, 0.7])
    assert (np.abs(actions.mean(0) - mean) < 4 * std / DRAWS**0.5).all()
    np.testing.assert_allclose(actions.std(0), std, rtol=4 / (2 * DRAWS) ** 0.5)
    correlated = np.corrcoef(actions.T)[np.triu_indices(3, 1)]
    assert (np.abs(correlated) < 4 / DRAWS**0.5).all()
    for column in range(3):
        z = np.sort((actions[:, column] - mean[column]) / std[column])[::20]
        assert kolmogorov_statistic(z, 0.5 * torch.special.erfc(torch.tensor(-z / math.sqrt(2.0))).numpy()) < 1.95
    np.testing.assert_allclose(Actor(gaussian).mode(np.array([obs], np.float32))[0], mean, rtol=1e-5)


@OBSERVATIONS
def test_gaussian_log_prob_equals_torchs(gaussian, obs):
    actions = sample(gaussian, obs, 1000)
    mean = gaussian.head.output(gaussian.policy(torch.tensor([obs], dtype=torch.float32)))[0]
    log_probs, _ = evaluate_actions(gaussian, obs, actions)
    independent = torch.distributions.Normal(mean.double(), torch.tensor([-1.2, 0.0, 0.7]).double().exp())
    expected = independent.log_prob(torch.from_numpy(actions).double()).sum(-1)
    torch.testing.assert_close(log_probs.double(), expected, rtol=1e-5, atol=1e-5)


def test_gaussian_density_integrates_to_1():
    """Numerically, on a fine grid in one dimension."""
    policy = make_policy(spaces.Box(-1.0, 1.0, (1,), np.float32))
    policy.head.log_std.fill_(-0.4)
    grid = np.linspace(-12.0, 12.0, 20_001, dtype=np.float32)[:, None]
    log_probs, entropy = evaluate_actions(policy, (0.3, 0.2), grid)
    density, width = log_probs.double().exp(), 24.0 / 20_000
    assert float(density.sum() * width) == pytest.approx(1.0, abs=1e-4)
    assert float(-(density * log_probs.double()).sum() * width) == pytest.approx(float(entropy[0]), abs=1e-4)


@OBSERVATIONS
def test_gaussian_entropy_is_the_mean_negative_log_prob_and_equals_torchs(gaussian, obs):
    log_probs, entropy = evaluate_actions(gaussian, obs, sample(gaussian, obs))
    torchs = torch.distributions.Normal(torch.zeros(3), torch.tensor([-1.2, 0.0, 0.7]).exp()).entropy().sum()
    assert float(entropy[0]) == pytest.approx(float(torchs), rel=1e-5)
    nll = -log_probs.double()
    assert float(nll.mean()) == pytest.approx(float(entropy[0]), abs=4 * float(nll.std()) / DRAWS**0.5)


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_each_action_depends_on_its_own_observation_and_noise(kind, request):
    policy = request.getfixturevalue(kind)
    rng = np.random.default_rng(4)
    obs = rng.normal(size=(50, 2)).astype(np.float32)
    noise = policy.head.sample_noise(rng, 50)
    assert len(np.unique(noise[:, 0])) == 50
    together = Actor(policy).sample(obs, noise)
    alone = np.concatenate([Actor(policy).sample(obs[k : k + 1], noise[k : k + 1]) for k in range(50)])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_random_streams_are_independent():
    """The reference implementations use the same streams, so they cannot detect that two streams are equal."""
    streams = list(itertools.product((0, 1), Purpose, (0, 1, 2), (0, 1)))
    drawn = [make_rng(*stream).standard_normal(2000) for stream in streams]
    assert len({numbers[0] for numbers in drawn}) == len({make_seed(*stream) for stream in streams}) == len(streams)
    correlated = np.corrcoef(drawn)[np.triu_indices(len(streams), 1)]
    assert np.abs(correlated).max() < 5.5 / 2000**0.5  # expect 4 deviations among 3486 pairs
    assert make_rng(3, Purpose.NOISE, 1).random() == make_rng(3, Purpose.NOISE, 1).random()
