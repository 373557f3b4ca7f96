"""The squashed Gaussian: a diagonal Gaussian whose samples tanh maps to (−1, 1) (Haarnoja et al. 2018, app. C)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import softplus

from milozero.agents.nn.mlp import linear
from milozero.agents.nn.policies import LOG_2PI

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class SquashedGaussian(nn.Module):
    """Actions tanh(u), u ~ N(μ(s), σ(s)²), for actions bounded by −1 and 1."""

    def __init__(self, inputs: int, size: int, rng: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.output = linear(inputs, 2 * size, 0.01, rng)  # μ, then log σ

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return standard normal noise (steps, A) for `sample`."""
        return rng.standard_normal((steps, self.size), np.float32)

    def sample(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return actions tanh(μ + σ z) (N, A) for outputs (N, 2A) and standard normal noise z (N, A)."""
        mean, log_std = np.split(outputs, 2, axis=-1)
        return np.tanh(mean + np.exp(np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)) * noise)

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the actions tanh(μ) (N, A)."""
        return np.tanh(outputs[..., : self.size])

    def forward(self, features: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return actions (B, A) and their log-probabilities (B,), differentiable, for standard normal noise z (B, A).

        log π(a|s) = Σ (−½ z² − log σ − ½ log 2π − log(1 − tanh²(u))), and log(1 − tanh²(u)) is computed as
        2 (log 2 − u − softplus(−2u)), which is exact for large u.
        """
        mean, log_std = self.output(features).chunk(2, dim=-1)
        log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        u = mean + log_std.exp() * noise
        correction = 2.0 * (math.log(2.0) - u - softplus(-2.0 * u))
        return torch.tanh(u), (-0.5 * noise * noise - log_std - 0.5 * LOG_2PI - correction).sum(-1)
