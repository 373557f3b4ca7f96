"""Action distributions: diagonal Gaussian and categorical, each the output layer of a policy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from milozero.agents.nn.mlp import linear

LOG_2PI = math.log(2.0 * math.pi)


class Gaussian(nn.Module):
    """Diagonal Gaussian with a state-independent log standard deviation, for continuous actions."""

    def __init__(self, inputs: int, size: int, log_std: float, rng: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.output = linear(inputs, size, 0.01, rng)  # the mean; the small gain keeps initial actions near 0
        self.log_std = nn.Parameter(torch.full((size,), log_std))

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return standard normal noise (steps, A) for `sample`."""
        return rng.standard_normal((steps, self.size), np.float32)

    def sample(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return actions μ + σ z (N, A) for means (N, A) and standard normal noise z (N, A)."""
        return outputs + noise * np.exp(self.log_std.numpy())

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the most probable actions (N, A), which are the means (N, A)."""
        return outputs

    def log_prob(self, features: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probability and entropy (B,) for features (B, F) and actions (B, A)."""
        z = (actions - self.output(features)) * torch.exp(-self.log_std)  # (a − μ) / σ
        # log π(a|s) = −Σ (½ z² + log σ + ½ log 2π), entropy = Σ (log σ + ½ (log 2π + 1))
        log_prob = -(0.5 * z * z + self.log_std + 0.5 * LOG_2PI).sum(-1)
        entropy = (self.log_std + 0.5 * (LOG_2PI + 1.0)).sum().expand_as(log_prob)
        return log_prob, entropy


class Categorical(nn.Module):
    """Categorical distribution, for discrete actions."""

    def __init__(self, inputs: int, size: int, rng: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.output = linear(inputs, size, 0.01, rng)  # the logits

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return Gumbel noise (steps, A) for `sample`."""
        return rng.gumbel(size=(steps, self.size)).astype(np.float32)

    def sample(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return actions (N,) for logits (N, A) and Gumbel noise (N, A), by the Gumbel-max trick."""
        return (outputs + noise).argmax(-1)

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the most probable actions (N,) for logits (N, A)."""
        return outputs.argmax(-1)

    def log_prob(self, features: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probability and entropy (B,) for features (B, F) and actions (B,)."""
        log_probs = torch.log_softmax(self.output(features), dim=-1)
        # A product with the one-hot action instead of a gather, whose gradient does not compile to plain loops.
        one_hot = torch.arange(self.size, device=log_probs.device) == actions.unsqueeze(-1)
        return (log_probs * one_hot).sum(-1), -(log_probs.exp() * log_probs).sum(-1)


def make_head(space: Any, inputs: int, log_std: float, rng: torch.Generator) -> Gaussian | Categorical:
    """Return the distribution for an action space (Box or Discrete)."""
    if space.shape:
        return Gaussian(inputs, int(space.shape[0]), log_std, rng)
    return Categorical(inputs, int(space.n), rng)
