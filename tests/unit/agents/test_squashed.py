"""The squashed Gaussian, against numerical integration and PyTorch's own transformed distribution."""

import itertools

import numpy as np
import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from milozero.agents.nn.squashed import SquashedGaussian


def make(mean, log_std, size=1):
    head = SquashedGaussian(1, size, torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.output.weight.zero_()
        head.output.bias[:size], head.output.bias[size:] = torch.tensor(mean), torch.tensor(log_std)
    return head


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-2.0, 0.5), (1.5, -3.0)])
def test_density_equals_the_distribution_of_the_samples(mean, log_std):
    """The probability of an interval, by the density and by counting samples."""
    head = make([mean], [log_std])
    noise = torch.from_numpy(head.sample_noise(np.random.default_rng(0), 400_000))
    with torch.no_grad():
        actions, log_probs = head(torch.zeros(len(noise), 1), noise)
    edges = np.quantile(actions.numpy(), [0.1, 0.3, 0.5, 0.7, 0.9])
    order = np.argsort(actions[:, 0].numpy())
    a, density = actions[order, 0].numpy().astype(float), np.exp(log_probs[order].numpy().astype(float))
    for low, high in itertools.pairwise(edges):
        inside = (a >= low) & (a <= high)
        assert np.trapezoid(density[inside], a[inside]) == pytest.approx(inside.mean(), abs=2e-3)


@pytest.mark.parametrize("scale", [0.1, 3.0, 20.0])
def test_log_probability_equals_that_of_pytorch_and_stays_finite(scale):
    generator = torch.Generator().manual_seed(1)
    head = SquashedGaussian(4, 3, generator).double()
    features = scale * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    head.output.weight.data.mul_(100)
    actions, log_probs = head(features, noise)
    mean, log_std = head.output(features).chunk(2, dim=1)
    reference = TransformedDistribution(Normal(mean, log_std.clamp(-20, 2).exp()), TanhTransform(cache_size=1))
    u = mean + log_std.clamp(-20, 2).exp() * noise
    expected = Normal(mean, log_std.clamp(-20, 2).exp()).log_prob(u) - reference.transforms[0].log_abs_det_jacobian(
        u, None
    )
    assert torch.isfinite(log_probs).all()
    torch.testing.assert_close(actions, torch.tanh(u))
    torch.testing.assert_close(log_probs, expected.sum(1), rtol=1e-6, atol=1e-6)


def test_numpy_samples_equal_torchs_and_the_mode_has_no_noise():
    head = SquashedGaussian(4, 3, torch.Generator().manual_seed(2))
    features, noise = torch.randn(50, 4), head.sample_noise(np.random.default_rng(3), 50)
    with torch.no_grad():
        outputs = head.output(features).numpy()
        actions, _ = head(features, torch.from_numpy(noise))
    np.testing.assert_allclose(head.sample(outputs, noise), actions.numpy(), atol=1e-6)
    np.testing.assert_array_equal(head.mode(outputs), np.tanh(outputs[:, :3]))
    assert np.abs(head.sample(outputs, noise * 100)).max() <= 1
