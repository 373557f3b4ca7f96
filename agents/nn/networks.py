"""Perception stacks and the heads on them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from milozero.helpers.comm import Comm
from milozero.helpers.config.mlp import parse_hidden_sizes

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}
LOG_2PI = math.log(2.0 * math.pi)


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


class Policy(nn.Module):
    """A distribution of actions for each observation."""

    def __init__(self, policy: MLP, head: Gaussian | Categorical) -> None:
        super().__init__()
        self.policy = policy
        self.head = head

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return log-probability and entropy (B,) and the head's outputs, for observations (B, O) and actions."""
        features = self.policy(obs)
        return *self.head.log_prob(features, actions), self.head.output(features)

    def update_batch_norm(self, obs: torch.Tensor, comm: Comm) -> None:
        """Let every batch normalization follow the observations (K, O) of all workers."""
        self.policy.update_batch_norm(obs, comm)


class ActorCritic(Policy):
    """A policy and a value function, on hidden layers of their own or on shared ones."""

    def __init__(self, policy: MLP, head: Gaussian | Categorical, value: MLP | None, rng: torch.Generator) -> None:
        super().__init__(policy, head)
        self.value = value  # None: the value function stands on the policy's layers
        self.value_head = linear((value or policy).outputs, 1, 1.0, rng)

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return log-probability, entropy and value (B,) for observations (B, O) and actions (B, ...)."""
        features = self.policy(obs)
        log_prob, entropy = self.head.log_prob(features, actions)
        on = features if self.value is None else self.value(obs)
        return log_prob, entropy, self.value_head(on).squeeze(-1)

    def values(self, obs: torch.Tensor) -> torch.Tensor:
        """Return the values (...) of observations (..., O)."""
        on = self.policy if self.value is None else self.value
        return self.value_head(on(obs)).squeeze(-1)

    def update_batch_norm(self, obs: torch.Tensor, comm: Comm) -> None:
        """Let every batch normalization follow the observations (K, O) of all workers."""
        super().update_batch_norm(obs, comm)
        if self.value is not None:
            self.value.update_batch_norm(obs, comm)


def as_numpy(layer: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Return a layer as a numpy function on the same memory, which follows what the parameters learn.

    A policy is asked once per vector step, for a handful of rows, where torch's dispatch costs several times the
    arithmetic.
    """
    if isinstance(layer, nn.Sequential):
        parts = [as_numpy(part) for part in layer]

        def chain(x: np.ndarray) -> np.ndarray:
            for part in parts:
                x = part(x)
            return x

        return chain
    if isinstance(layer, nn.Linear):
        weights, bias = layer.weight.numpy().T, layer.bias.numpy()
        return lambda x: x @ weights + bias
    if isinstance(layer, (BatchNorm, nn.LayerNorm)):
        scale, shift = layer.weight.numpy(), layer.bias.numpy()
        if isinstance(layer, BatchNorm):
            mean, var, small = layer.mean.numpy(), layer.var.numpy(), layer.EPSILON
            return lambda x: (x - mean) * (scale / np.sqrt(var + np.float32(small))) + shift
        epsilon = np.float32(layer.eps)

        def layer_norm(x: np.ndarray) -> np.ndarray:
            centerd = x - x.mean(-1, keepdims=True)
            return centerd / np.sqrt((centerd * centerd).mean(-1, keepdims=True) + epsilon) * scale + shift

        return layer_norm
    if isinstance(layer, nn.Tanh):
        return lambda x: np.tanh(x, out=x)
    if isinstance(layer, nn.ReLU):
        return lambda x: np.maximum(x, 0.0, out=x)
    assert isinstance(layer, nn.ELU), layer
    return lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0)))


class Actor:
    """A policy that acts from host memory, in numpy; networks on a GPU are mirrored there.

    Call `refresh` after the network has learned.
    """

    def __init__(self, network: Policy) -> None:
        self._network = network
        on_host = network.head.output.weight.device.type == "cpu"
        self._mirror = network if on_host else copy.deepcopy(network).cpu()
        self.head = self._mirror.head
        self._policy, self._output = as_numpy(self._mirror.policy), as_numpy(self.head.output)

    def refresh(self) -> None:
        """Copy what the network has learned, where it lies on another device."""
        if self._mirror is not self._network:
            for name, value in self._network.state_dict().items():
                self._mirror.state_dict()[name].copy_(value)

    def sample(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return sampled actions for normalized observations (N, O) and the head's noise (N, ...)."""
        return self.head.sample(self._output(self._policy(obs)), noise)

    def mode(self, obs: np.ndarray) -> np.ndarray:
        """Return the most probable actions for normalized observations (N, O)."""
        return self.head.mode(self._output(self._policy(obs)))
