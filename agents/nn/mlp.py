"""Multilayer perceptrons, with optional layer and batch normalization."""

from __future__ import annotations

import math

import torch
from torch import nn

from milozero.helpers.comm import Comm
from milozero.helpers.config.mlp import parse_hidden_sizes

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}


def linear(inputs: int, outputs: int, gain: float, rng: torch.Generator) -> nn.Linear:
    """Return a linear layer with orthogonal weights (Saxe et al. 2014) and zero biases."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain, generator=rng)
    nn.init.zeros_(layer.bias)
    return layer


class BatchNorm(nn.Module):
    """Batch normalization whose moments are those of whole rollouts of all workers (after Ioffe & Szegedy 2015).

    The moments stay frozen while a rollout is collected and learned from, and follow it once per iteration. So
    a policy is the same function when it acts, when its old log-probabilities are computed, when it is updated
    and when it is evaluated, whatever the size of a minibatch and the number of workers. Moments of single
    minibatches would break all four: PPO's ratio would not start at 1.
    """

    EPSILON = 1e-5
    MOMENTUM = 0.1  # weight of the newest rollout

    mean: torch.Tensor
    var: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))  # rollouts learned

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` (..., size) normalized, scaled and shifted."""
        return (x - self.mean) * (torch.rsqrt(self.var + self.EPSILON) * self.weight) + self.bias

    def update_batch_norm(self, x: torch.Tensor, comm: Comm) -> None:
        """Follow the moments of every worker's `x` (K, size)."""
        sums = torch.cat([x.sum(0), (x * x).sum(0), torch.full((1,), len(x), device=x.device)])
        total = torch.from_numpy(comm.sum_(sums.double().cpu().numpy())).to(x.device)
        size = x.shape[1]
        mean = total[:size] / total[-1]
        var = total[size:-1] / total[-1] - mean**2
        weight = max(self.MOMENTUM, 1.0 / (float(self.count) + 1.0))  # the first rollouts count in full
        self.mean.lerp_(mean.float(), weight)
        self.var.lerp_(var.clamp_min(0.0).float(), weight)
        self.count += 1


class MLP(nn.Sequential):
    """Hidden layers by name (``mlp_100``), each linear → normalization → activation."""

    def __init__(
        self,
        stack: str,
        inputs: int,
        rng: torch.Generator,
        *,
        activation: str = "tanh",
        layer_norm: bool = False,
        batch_norm: bool = False,
    ) -> None:
        layers: list[nn.Module] = []
        for width in parse_hidden_sizes(stack):
            layers.append(linear(inputs, width, math.sqrt(2.0), rng))
            if batch_norm:
                layers.append(BatchNorm(width))
            if layer_norm:
                layers.append(nn.LayerNorm(width))
            layers.append(ACTIVATIONS[activation]())
            inputs = width
        super().__init__(*layers)
        self.outputs = inputs

    def update_batch_norm(self, x: torch.Tensor, comm: Comm) -> None:
        """Let each batch normalization follow what it would have seen for the inputs `x` (K, I)."""
        for layer in self:
            if isinstance(layer, BatchNorm):
                layer.update_batch_norm(x, comm)
            x = layer(x)
