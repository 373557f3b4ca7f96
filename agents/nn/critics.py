"""Action values: several critics as one batched network."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import layer_norm as normalize_layer

from milozero.agents.nn.mlp import ACTIVATIONS
from milozero.helpers.config.mlp import parse_hidden_sizes


class BatchedLinear(nn.Module):
    """E linear layers, applied in one batched product; initialized like `torch.nn.Linear`."""

    def __init__(self, count: int, inputs: int, outputs: int, rng: torch.Generator) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(count, inputs, outputs).uniform_(-bound, bound, generator=rng))
        self.bias = nn.Parameter(torch.empty(count, 1, outputs).uniform_(-bound, bound, generator=rng))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (E, B, outputs) for `x` (E, B, inputs)."""
        return torch.baddbmm(self.bias, x, self.weight)


class BatchedLayerNorm(nn.Module):
    """E layer normalizations (Ba et al. 2016), each with its own scale and shift."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count, 1, size))
        self.bias = nn.Parameter(torch.zeros(count, 1, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalized `x` (E, B, size)."""
        return normalize_layer(x, x.shape[-1:]) * self.weight + self.bias


class Critics(nn.Module):
    """E action-value functions Q(s, a) with equal hidden layers and different parameters."""

    def __init__(
        self, count: int, stack: str, inputs: int, rng: torch.Generator, *, activation: str, layer_norm: bool
    ) -> None:
        super().__init__()
        self.count = count
        layers: list[nn.Module] = []
        for width in parse_hidden_sizes(stack):
            layers.append(BatchedLinear(count, inputs, width, rng))
            if layer_norm:
                layers.append(BatchedLayerNorm(count, width))
            layers.append(ACTIVATIONS[activation]())
            inputs = width
        self.layers = nn.Sequential(*layers, BatchedLinear(count, inputs, 1, rng))

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return Q(s, a) (E, B) for observations (B, O) and actions (B, A)."""
        x = torch.cat([obs, actions], dim=1).expand(self.count, -1, -1)
        return self.layers(x).squeeze(-1)
