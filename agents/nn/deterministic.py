"""A deterministic policy's last layer: actions tanh(W x + b) in (−1, 1), with Gaussian noise to explore."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from milozero.agents.nn.mlp import linear


class Deterministic(nn.Module):
    """Actions tanh(μ(s)); sampling adds noise and clips to the bounds, which are −1 and 1."""

    def __init__(self, inputs: int, size: int, exploration_noise: float, rng: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.exploration_noise = exploration_noise  # standard deviation
        self.output = linear(inputs, size, 0.01, rng)  # μ; the small gain keeps initial actions near 0

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return standard normal noise (steps, A) for `sample`."""
        return rng.standard_normal((steps, self.size), np.float32)

    def sample(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return actions clip(tanh(μ) + σ z, −1, 1) (N, A) for outputs μ (N, A) and normal noise z (N, A)."""
        return np.clip(np.tanh(outputs) + np.float32(self.exploration_noise) * noise, -1.0, 1.0)

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the actions tanh(μ) (N, A)."""
        return np.tanh(outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the actions (B, A) for features (B, F)."""
        return torch.tanh(self.output(features))
