"""Discriminator networks."""

from __future__ import annotations

import torch
from torch import nn

from milozero.agents.nn.mlp import MLP, linear
from milozero.helpers.comm import Comm


class SpectralLinear(nn.Linear):
    """A linear layer whose weight is divided by its largest singular value (spectral norm, Miyato et al. 2018).

    `refresh` estimates the singular vectors by power iteration. Call it before every pass over the data, during which
    they are constant.
    """

    POWER_ITERATIONS = 5  # per `refresh`

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
        """Update the singular vectors: v ← Wᵀu / ‖Wᵀu‖, u ← Wv / ‖Wv‖."""
        for _ in range(self.POWER_ITERATIONS):
            self.right.copy_(nn.functional.normalize(self.weight.detach().T @ self.left, dim=0))
            self.left.copy_(nn.functional.normalize(self.weight.detach() @ self.right, dim=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (W / σ) x + b for inputs (..., I), with σ = uᵀ W v."""
        return nn.functional.linear(x, self.weight / (self.left @ self.weight @ self.right), self.bias)


class MLPHead(nn.Module):
    """An MLP with one linear output, e.g. a logit or a reward."""

    def __init__(self, stack: MLP, rng: torch.Generator, spectral_norm: bool) -> None:
        super().__init__()
        self.stack = stack
        self.head = linear(stack.outputs, 1, 1.0, rng)
        if spectral_norm:
            for index, layer in enumerate(stack):
                if isinstance(layer, nn.Linear):
                    stack[index] = SpectralLinear(layer, rng)
            self.head = SpectralLinear(self.head, rng)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs (...) for inputs (..., I)."""
        outputs: torch.Tensor = self.head(self.stack(x)).squeeze(-1)
        return outputs

    @torch.no_grad()
    def refresh(self) -> None:
        """Update the singular vectors of spectral normalization."""
        for layer in self.modules():
            if isinstance(layer, SpectralLinear):
                layer.refresh()

    @torch.no_grad()
    def update_batch_norm(self, x: torch.Tensor, comm: Comm) -> None:
        """Update the moments of batch normalization with the inputs (K, I) of all workers (collective)."""
        self.stack.update_batch_norm(x, comm)


class ShapedReward(nn.Module):
    """AIRL's discriminator (Fu et al. 2018, eq. 4): logit = g(s, a) + γ h(s') − h(s) − log π(a|s).

    The input features are s, s', a (optional), 1 − terminated and log π(a|s). A terminal s' has no potential.
    """

    def __init__(self, reward: MLPHead, potential: MLPHead, state_size: int, gamma: float) -> None:
        super().__init__()
        self.reward = reward
        self.potential = potential
        self.state_size = state_size
        self.gamma = gamma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (...) for features (..., I)."""
        state, next_state, not_terminated, log_probs = *self._states(x), x[..., -2], x[..., -1]
        shaping = self.gamma * not_terminated * self.potential(next_state) - self.potential(state)  # γ h(s') − h(s)
        logits: torch.Tensor = self.reward(self.reward_inputs(x)) + shaping - log_probs
        return logits

    def _states(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = self.state_size
        return x[..., :size], x[..., size : 2 * size]

    def reward_inputs(self, x: torch.Tensor) -> torch.Tensor:
        """Return the inputs of g (..., J) among the features (..., I): s, and a if they contain it."""
        size = self.state_size
        return torch.cat([x[..., :size], x[..., 2 * size : -2]], dim=-1)

    def refresh(self) -> None:
        """Update the singular vectors of spectral normalization."""
        self.reward.refresh()
        self.potential.refresh()

    @torch.no_grad()
    def update_batch_norm(self, x: torch.Tensor, comm: Comm) -> None:
        """Update the moments of batch normalization with the features (K, I) of all workers (collective)."""
        self.reward.update_batch_norm(self.reward_inputs(x), comm)
        self.potential.update_batch_norm(torch.cat(self._states(x)), comm)
