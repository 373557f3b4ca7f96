"""The parameters of a network as one vector."""

from __future__ import annotations

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

    def unflatten(self, vector: torch.Tensor) -> Params:
        """Return name → view of `vector` (P,)."""
        parts = torch.split(vector, self.sizes)
        return {n: part.view(s) for n, part, s in zip(self.names, parts, self.shapes, strict=True)}

    def fill(self, setting_value: Callable[[str], float]) -> torch.Tensor:
        """Return a vector (P,) with ``setting_value(name)`` at each parameter's place."""
        filled = torch.empty_like(self.vector)
        for name, part in self.unflatten(filled).items():
            part.fill_(setting_value(name))
        return filled

    def hash(self) -> int:
        """Return a checksum of the parameters' bits."""
        return zlib.crc32(self.vector.cpu().numpy().tobytes())
