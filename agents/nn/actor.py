"""A policy network in numpy: what acts in the environments."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from torch import nn

from milozero.agents.nn.mlp import BatchNorm
from milozero.agents.nn.policies import Policy


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
