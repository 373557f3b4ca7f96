"""Batches packed into one matrix: shuffling is one gather, and compiled code takes one argument."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

Batch = Mapping[str, torch.Tensor]


class PackedBatch:
    """The fields (M, ...) of a batch, flattened and concatenated to one float32 matrix (M, F)."""

    def __init__(self, batch: Batch) -> None:
        rows = len(next(iter(batch.values())))
        self.shapes = {name: field.shape[1:] for name, field in batch.items()}
        self.matrix = torch.cat([field.reshape(rows, -1).float() for field in batch.values()], dim=1)  # (M, F)

    def minibatches(self, size: int, rng: np.random.Generator) -> torch.Tensor:
        """Return one epoch of shuffled minibatches (K, size, F).

        If `size` does not divide M, each epoch leaves out a random remainder.
        """
        count = len(self.matrix) // size
        order = rng.permutation(len(self.matrix))[: count * size]
        shuffled = self.matrix[torch.from_numpy(order).to(self.matrix.device)]
        return shuffled.view(count, size, -1)


def unpack(matrix: torch.Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Return the fields (B, ...) of a packed minibatch (B, F) as float32 views; `shapes` lack the first dimension."""
    parts = torch.split(matrix, [math.prod(shape) for shape in shapes.values()], dim=1)
    return {n: part.reshape(-1, *shape) for (n, shape), part in zip(shapes.items(), parts, strict=True)}
