"""Action distributions: a diagonal Gaussian and a categorical."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from milozero.agents.nn.mlp import linear

LOG_2PI = math.log(2.0 * math.pi)


class Gaussian(nn.Module):
    """Diagonal Gaussian over actions with a state-independent log standard deviation."""

    def __init__(self, inputs: int, size: int, log_std: float, rng: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.output = linear(inputs, size, 0.01, rng)  # the mean; small: the first policy acts near zero
        self.log_std = nn.Parameter(torch.full((size,), log_std))

    def noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return what `sample` needs for `steps` actions, (steps, A)."""
        return rng.standard_normal((steps, self.size), np.float32)

    def sample(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return actions (N, A) for the output layer's means (N, A) and standard normal noise (N, A)."""
        return outputs + noise * np.exp(self.log_std.numpy())

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the most probable actions (N, A) for the output layer's means (N, A)."""
        return outputs

    def log_prob(self, features: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probability and entropy (B,) for features (B, F) and actions (B, A)."""
        z = (actions - self.output(features)) * torch.exp(-self.log_std)
        log_prob = -(0.5 * z * z + self.log_std + 0.5 * LOG_2PI).sum(-1)
        entropy = (self.log_std + 0.5 * (LOG_2PI + 1.0)).sum().expand_as(log_prob)
        return log_prob, entropy


class Categorical(nn.Module):
    """Categorical over a finite set of actions."""

    def __init__(self, inputs: int, size: int, rng: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.output = linear(inputs, size, 0.01, rng)  # the logits

    def noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return what `sample` needs for `steps` actions, (steps, A)."""
        return rng.gumbel(size=(steps, self.size)).astype(np.float32)

    def sample(self, outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return actions (N,) by the Gumbel-max trick, for logits (N, A) and Gumbel noise (N, A)."""
        return (outputs + noise).argmax(-1)

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the most probable actions (N,) for logits (N, A)."""
        return outputs.argmax(-1)

    def log_prob(self, features: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probability and entropy (B,) for features (B, F) and actions (B,)."""
        log_probs = torch.log_softmax(self.output(features), dim=-1)
        # a one-hot product, not gather: its gradient compiles to plain loops
        chosen = torch.arange(self.size, device=log_probs.device) == actions.unsqueeze(-1)
        return (log_probs * chosen).sum(-1), -(log_probs.exp() * log_probs).sum(-1)


def make_head(space: Any, inputs: int, log_std: float, rng: torch.Generator) -> Gaussian | Categorical:
    """Return the policy head that fits an action space (Box or Discrete)."""
    if space.shape:
        return Gaussian(inputs, int(space.shape[0]), log_std, rng)
    return Categorical(inputs, int(space.n), rng)
