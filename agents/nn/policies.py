"""Policies: action distributions, the networks that output them, and their numpy copy that acts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from milozero.agents.nn.mlp import MLP, BatchNorm, linear
from milozero.helpers.comm import Comm

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


class Policy(nn.Module):
    """A policy π(a|s): hidden layers and an action distribution."""

    def __init__(self, policy: MLP, head: Gaussian | Categorical) -> None:
        super().__init__()
        self.policy = policy
        self.head = head

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return log π(a|s), entropy (B,) and the head's outputs for observations (B, O) and actions (B, ...)."""
        features = self.policy(obs)
        return *self.head.log_prob(features, actions), self.head.output(features)

    def update_batch_norm(self, obs: torch.Tensor, comm: Comm) -> None:
        """Update batch normalization with the observations (K, O) of all workers (collective)."""
        self.policy.update_batch_norm(obs, comm)


class ActorCritic(Policy):
    """A policy π(a|s) and a value function V(s), with separate hidden layers, or shared ones if `value` is None."""

    def __init__(self, policy: MLP, head: Gaussian | Categorical, value: MLP | None, rng: torch.Generator) -> None:
        super().__init__(policy, head)
        self.value = value
        self.value_head = linear((value or policy).outputs, 1, 1.0, rng)

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return log π(a|s), entropy and V(s) (B,) for observations (B, O) and actions (B, ...)."""
        features = self.policy(obs)
        log_prob, entropy = self.head.log_prob(features, actions)
        value_features = features if self.value is None else self.value(obs)
        return log_prob, entropy, self.value_head(value_features).squeeze(-1)

    def predict_values(self, obs: torch.Tensor) -> torch.Tensor:
        """Return V(s) (...) for observations (..., O)."""
        stack = self.policy if self.value is None else self.value
        return self.value_head(stack(obs)).squeeze(-1)

    def update_batch_norm(self, obs: torch.Tensor, comm: Comm) -> None:
        """Update batch normalization with the observations (K, O) of all workers (collective)."""
        super().update_batch_norm(obs, comm)
        if self.value is not None:
            self.value.update_batch_norm(obs, comm)


def as_numpy(layer: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Return the forward pass of a layer as a numpy function that shares the parameters' memory.

    The policy is called once per vector step with a few rows. For these, torch's dispatch takes several times as long
    as the arithmetic.
    """
    if isinstance(layer, nn.Sequential):
        functions = [as_numpy(part) for part in layer]

        def sequential(x: np.ndarray) -> np.ndarray:
            for function in functions:
                x = function(x)
            return x

        return sequential
    if isinstance(layer, nn.Linear):
        weight, bias = layer.weight.numpy().T, layer.bias.numpy()
        return lambda x: x @ weight + bias
    if isinstance(layer, (BatchNorm, nn.LayerNorm)):
        scale, shift = layer.weight.numpy(), layer.bias.numpy()
        if isinstance(layer, BatchNorm):
            mean, var, bn_epsilon = layer.mean.numpy(), layer.var.numpy(), np.float32(layer.EPSILON)
            return lambda x: (x - mean) * (scale / np.sqrt(var + bn_epsilon)) + shift
        epsilon = np.float32(layer.eps)

        def layer_norm(x: np.ndarray) -> np.ndarray:
            centered = x - x.mean(-1, keepdims=True)
            return centered / np.sqrt((centered * centered).mean(-1, keepdims=True) + epsilon) * scale + shift

        return layer_norm
    if isinstance(layer, nn.Tanh):
        return lambda x: np.tanh(x, out=x)
    if isinstance(layer, nn.ReLU):
        return lambda x: np.maximum(x, 0.0, out=x)
    assert isinstance(layer, nn.ELU), layer
    return lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0)))


class Actor:
    """A policy network that acts in numpy. A network on a GPU is copied to host memory.

    Call `refresh` after every update of the network.
    """

    def __init__(self, network: Policy) -> None:
        self._network = network
        on_host = network.head.output.weight.device.type == "cpu"
        self._host_network = network if on_host else copy.deepcopy(network).cpu()
        self.head = self._host_network.head
        self._policy, self._output = as_numpy(self._host_network.policy), as_numpy(self.head.output)

    def refresh(self) -> None:
        """Copy the parameters to host memory if the network is on a GPU."""
        if self._host_network is not self._network:
            for name, value in self._network.state_dict().items():
                self._host_network.state_dict()[name].copy_(value)

    def sample(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return sampled actions for normalized observations (N, O) and the head's noise (N, ...)."""
        return self.head.sample(self._output(self._policy(obs)), noise)

    def mode(self, obs: np.ndarray) -> np.ndarray:
        """Return the most probable actions for normalized observations (N, O)."""
        return self.head.mode(self._output(self._policy(obs)))
