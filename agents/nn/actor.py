"""The policy network in numpy, which acts in the environments."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from torch import nn

from milozero.agents.nn.mlp import BatchNorm
from milozero.agents.nn.policies import Policy


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
