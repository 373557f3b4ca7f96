"""All parameters of a network in one vector, for one all-reduce and one optimizer step."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable

import torch
from torch import nn

Params = dict[str, torch.Tensor]


class FlatParameters:
    """A network's parameters as one vector; the network's own parameters become views of it."""

    def __init__(self, network: nn.Module) -> None:
        named = dict(network.named_parameters())
        self.names = list(named)
        self.shapes = [p.shape for p in named.values()]
        self.sizes = [p.numel() for p in named.values()]
        self.vector = torch.cat([p.detach().reshape(-1) for p in named.values()])  # (P,)
        for parameter, view in zip(named.values(), self.unflatten(self.vector).values(), strict=True):
            parameter.data = view
            parameter.requires_grad_(False)

    @property
    def size(self) -> int:
        """P, the number of all parameters."""
        return len(self.vector)

    def unflatten(self, vector: torch.Tensor) -> Params:
        """Return the parameters by name, as views of `vector` (P,).

        A shorter vector holds the first parameters only, and must end where one of them ends.
        """
        total = list(itertools.accumulate(self.sizes)).index(len(vector)) + 1
        parts = torch.split(vector, self.sizes[:total])
        return {n: part.view(s) for n, part, s in zip(self.names, parts, self.shapes, strict=False)}

    def fill(self, get_value: Callable[[str], float]) -> torch.Tensor:
        """Return a vector (P,) that holds ``get_value(name)`` for every element of each parameter."""
        filled = torch.empty_like(self.vector)
        for name, part in self.unflatten(filled).items():
            part.fill_(get_value(name))
        return filled

    def hash(self) -> int:
        """Return a checksum of the parameters' bits."""
        return zlib.crc32(self.vector.cpu().numpy().tobytes())
