"""A network that tells two kinds of inputs apart."""

from __future__ import annotations

import torch
from torch import nn

from milozero.agents.nn.mlp import MLP, linear
from milozero.helpers.comm import Comm


class SpectralLinear(nn.Linear):
    """A linear layer divided by its largest singular value (Miyato et al. 2018), so that it stretches nothing.

    The singular vectors follow by power iteration in `refresh`, to be called before each pass over the data; within
    a pass they are constants.
    """

    ITERATIONS = 5

    left: torch.Tensor
    right: torch.Tensor

    def __init__(self, layer: nn.Linear, rng: torch.Generator) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("left", torch.randn(layer.out_features, generator=rng))
        self.register_buffer("right", torch.randn(layer.in_features, generator=rng))
        with torch.no_grad():
            for _ in range(4):
                self.refresh()

    def refresh(self) -> None:
        """Follow the weights."""
        for _ in range(self.ITERATIONS):
            self.right.copy_(nn.functional.normalize(self.weight.detach().T @ self.left, dim=0))
            self.left.copy_(nn.functional.normalize(self.weight.detach() @ self.right, dim=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's outputs for inputs (..., I)."""
        return nn.functional.linear(x, self.weight / (self.left @ self.weight @ self.right), self.bias)


class MLPHead(nn.Module):
    """Hidden layers and one number on top of them, such as the logit of being of the first kind."""

    def __init__(self, stack: MLP, rng: torch.Generator, spectral_norm: bool) -> None:
        super().__init__()
        self.stack = stack
        self.head = linear(stack.outputs, 1, 1.0, rng)
        if spectral_norm:
            for place, layer in enumerate(stack):
                if isinstance(layer, nn.Linear):
                    stack[place] = SpectralLinear(layer, rng)
            self.head = SpectralLinear(self.head, rng)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return numbers (...) for inputs (..., I)."""
        numbers: torch.Tensor = self.head(self.stack(x)).squeeze(-1)
        return numbers

    @torch.no_grad()
    def refresh(self) -> None:
        """Let spectral norms follow the weights."""
        for layer in self.modules():
            if isinstance(layer, SpectralLinear):
                layer.refresh()

    @torch.no_grad()
    def update_batch_norm(self, x: torch.Tensor, comm: Comm) -> None:
        """Let batch normalizations follow the inputs (K, I) of all workers."""
        self.stack.update_batch_norm(x, comm)


class ShapedReward(nn.Module):
    """A reward, a potential that shapes it, and the logit that they make with a policy (Fu et al. 2018, eq. 4).

    Its inputs are observation, next observation, what else the reward sees, 1 where the episode goes on, and the
    logarithm of the policy's probability of the action.
    """

    def __init__(self, reward: MLPHead, potential: MLPHead, observation_size: int, gamma: float) -> None:
        super().__init__()
        self.reward = reward
        self.potential = potential
        self.size = observation_size
        self.gamma = gamma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (...) of inputs (..., I)."""
        obs, next_obs, mark_running, log_probs = *self._observations(x), x[..., -2], x[..., -1]
        shaping = self.gamma * mark_running * self.potential(next_obs) - self.potential(obs)
        logits: torch.Tensor = self.reward(self._rewarded(x)) + shaping - log_probs
        return logits

    def _observations(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[..., : self.size], x[..., self.size : 2 * self.size]

    def _rewarded(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[..., : self.size], x[..., 2 * self.size : -2]], dim=-1)

    def refresh(self) -> None:
        """Let spectral norms follow the weights."""
        self.reward.refresh()
        self.potential.refresh()

    @torch.no_grad()
    def update_batch_norm(self, x: torch.Tensor, comm: Comm) -> None:
        """Let batch normalizations follow the inputs (K, I) of all workers."""
        self.reward.update_batch_norm(self._rewarded(x), comm)
        self.potential.update_batch_norm(torch.cat(self._observations(x)), comm)
