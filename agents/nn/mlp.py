"""Multilayer perceptrons (MLPs) with optional layer and batch normalization."""

from __future__ import annotations

import math

import torch
from torch import nn

from milozero.agents.normalizer import RunningMoments
from milozero.helpers.comm import Comm
from milozero.helpers.config.mlp import parse_hidden_sizes

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}


def linear(inputs: int, outputs: int, gain: float, rng: torch.Generator) -> nn.Linear:
    """Return a linear layer with orthogonal weights (Saxe et al. 2014) and zero biases."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain, generator=rng)
    nn.init.zeros_(layer.bias)
    return layer


def load_if_equal_shapes(network: nn.Module, source: nn.Module, prefix: str = "") -> bool:
    """Copy the parameters and buffers whose names begin with `prefix` if their names and shapes are equal.

    Returns:
        Whether they were copied.
    """
    own, other = (
        {name: value for name, value in each.state_dict().items() if name.startswith(prefix)}
        for each in (network, source)
    )
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in other.items()}:
        return False
    network.load_state_dict(other, strict=False)
    return True


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe & Szegedy 2015) with running moments of whole rollouts of all workers.

    The moments only change in `update_batch_norm`, once per iteration. So the policy is the same function during
    rollouts, updates and evaluations, for any minibatch size and number of workers. With the moments of single
    minibatches, PPO's ratio would not start at 1.
    """

    EPSILON = 1e-5
    MOMENTUM = 0.1  # weight of the latest rollout

    mean: torch.Tensor
    var: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))  # number of updates

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (x − mean) / sqrt(var + ε) * weight + bias, for `x` (..., size)."""
        return (x - self.mean) * (torch.rsqrt(self.var + self.EPSILON) * self.weight) + self.bias

    def update_batch_norm(self, x: torch.Tensor, comm: Comm) -> None:
        """Update the running moments with the `x` (K, size) of all workers (collective)."""
        moments = RunningMoments((x.shape[1],))  # in double precision: float32 loses a std of 0.1 at a mean of 1000
        moments.update(x.detach().cpu().numpy(), comm)
        mean, var = (torch.from_numpy(m).to(self.mean) for m in (moments.mean, moments.squares / moments.count))
        weight = max(self.MOMENTUM, 1.0 / (float(self.count) + 1.0))  # plain average of the first updates
        self.mean.lerp_(mean, weight)
        self.var.lerp_(var, weight)
        self.count += 1


class MLP(nn.Sequential):
    """Hidden layers, each linear → batch norm → layer norm → activation.

    Args:
        stack: widths by name, e.g. ``mlp_100`` or ``mlp_256_128``.
        inputs: number of input features.
        rng: generator of the initial weights.
        activation: a key of `ACTIVATIONS`.
        layer_norm: add layer normalization.
        batch_norm: add batch normalization.
    """

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
        """Update batch normalization, layer by layer, with the inputs `x` (K, I) of all workers (collective)."""
        for layer in self:
            if isinstance(layer, BatchNorm):
                layer.update_batch_norm(x, comm)
            x = layer(x)
