"""From a loss to an optimiser step: flat parameters, one gradient, one all-reduce, clipping, Adam.

The author of an algorithm writes a loss of (parameters, batch); everything here is the same for each of them.
"""

from __future__ import annotations

import math
import os
import shutil
import types
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import grad_and_value

from helpers.comm import Comm

Params = dict[str, torch.Tensor]
Batch = Mapping[str, torch.Tensor]
Loss = Callable[[Params, Batch], tuple[torch.Tensor, dict[str, torch.Tensor]]]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-5  # Adam's; the epsilon is PPO's custom (Huang et al. 2022, no. 3)
UNROLLED = 4  # minibatches in one compiled call, where no worker waits for another in between
PAYS_FROM = 30_000  # minibatches after which compiled code has won back the seconds its compilation takes


def compilation_pays(minibatches: float) -> bool:
    """Return whether a run of that many minibatches is worth compiling for, and a C++ compiler is there."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    return compiler is not None and minibatches >= PAYS_FROM


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

    def fill(self, value_of: Callable[[str], float]) -> torch.Tensor:
        """Return a vector (P,) with ``value_of(name)`` at each parameter's place."""
        filled = torch.empty_like(self.vector)
        for name, part in self.unflatten(filled).items():
            part.fill_(value_of(name))
        return filled

    def hash(self) -> int:
        """Return a checksum of the parameters' bits."""
        return zlib.crc32(self.vector.cpu().numpy().tobytes())


def _compiled(method: Any, device: str) -> Any:
    """Return a bound method compiled for the shapes it is called with.

    Only the shapes of its tensors are checked at each call (a third of the call's time goes into checking
    everything else that the code reads, and none of that changes). So each compiled method needs a code object of its
    own: torch keeps what it compiled with the code, and another network's must not be taken for this one's.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes under MPI
    function = method.__func__
    own = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    options: Any = {"guard_filter_fn": lambda guards: [guard.guard_type == "TENSOR_MATCH" for guard in guards]}
    if device == "cpu":
        options["cpp_wrapper"] = True
    return torch.compile(types.MethodType(own, method.__self__), fullgraph=True, dynamic=False, options=options)


class Optimizer:
    """Adam (Kingma & Ba 2015) on a network's flat parameters, gradients averaged over all workers.

    Args:
        network: whose parameters are learned.
        loss: of (parameters by name, batch); returns the scalar and the metrics to log. A pure function:
            it calls the network through ``torch.func.functional_call``.
        learning_rate: of a parameter, by its name.
        clip_norm: largest norm of the whole gradient, after averaging; 0 for none.
        comm: the workers.
        compile: compile gradient and step with torch.compile; every batch must then have the same shapes.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        learning_rate: Callable[[str], float],
        *,
        clip_norm: float,
        comm: Comm,
        compile: bool,
    ) -> None:
        self.params = FlatParameters(network)
        self.loss = loss
        self.clip_norm = clip_norm
        self.comm = comm
        self.base_rate = self.params.fill(learning_rate)
        self.rate = self.base_rate.clone()
        self.moment1 = torch.zeros_like(self.base_rate)
        self.moment2 = torch.zeros_like(self.base_rate)
        self.steps = torch.zeros((), device=self.base_rate.device)
        self._shapes: dict[str, torch.Size] = {}  # of the batch's fields, without their first dimension
        self._names: list[str] = []  # of the metrics
        self._sums = torch.zeros(0)  # of the metrics since they were last taken, and last the number of steps
        self._gradient: Any = self.gradient
        self._apply: Any = self.apply
        self._apply_then_gradient: Any = self.apply_then_gradient
        self._steps_alone: Any = self.steps_alone
        if compile:
            device = self.rate.device.type
            self._gradient = _compiled(self.gradient, device)
            self._apply = _compiled(self.apply, device)
            self._apply_then_gradient = _compiled(self.apply_then_gradient, device)
            self._steps_alone = _compiled(self.steps_alone, device)

    def set_schedule(self, factor: float) -> None:
        """Set every learning rate to `factor` times its start value."""
        torch.mul(self.base_rate, factor, out=self.rate)

    def gradient(self, minibatch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return this worker's gradient (P,) and metrics (M,) of the loss; nothing changes."""
        batch = unpack(minibatch, self._shapes)

        def of_vector(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            value, metrics = self.loss(self.params.unflatten(flat), batch)
            return value, torch.stack([metric.detach() for metric in metrics.values()])

        gradient, (_, metrics) = grad_and_value(of_vector, has_aux=True)(self.params.vector)
        return gradient, metrics

    def apply(self, gradient: torch.Tensor, metrics: torch.Tensor) -> None:
        """Take one Adam step with the clipped mean of a `gradient` (P,) summed over all workers; count `metrics`."""
        gradient = gradient / self.comm.size
        norm = torch.linalg.vector_norm(gradient)
        if self.clip_norm:
            gradient = gradient * torch.clamp(self.clip_norm / (norm + 1e-6), max=1.0)
        self.steps.add_(1.0)
        self.moment1.lerp_(gradient, 1.0 - BETA1)
        self.moment2.mul_(BETA2).addcmul_(gradient, gradient, value=1.0 - BETA2)
        unbiased1 = self.moment1 / (1.0 - BETA1**self.steps)
        unbiased2 = self.moment2 / (1.0 - BETA2**self.steps)
        self.params.vector.sub_(self.rate * unbiased1 / (unbiased2.sqrt() + EPSILON))
        self._sums.add_(torch.cat([metrics, torch.stack([norm, torch.ones_like(norm)])]))

    def apply_then_gradient(
        self,
        gradient: torch.Tensor,
        metrics: torch.Tensor,
        minibatch: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Finish one step and begin the next: one call between two all-reduces."""
        self.apply(gradient, metrics)
        return self.gradient(minibatch)

    def steps_alone(self, minibatches: torch.Tensor) -> None:
        """Take one step on each of the packed `minibatches` (K, B, F), where there is nobody to average with."""
        for minibatch in minibatches.unbind(0):
            self.apply(*self.gradient(minibatch))

    def learn(self, batch: Batch, size: int, rng: np.random.Generator) -> None:
        """Learn from one epoch of `batch` (fields (M, ...)) in shuffled minibatches.

        Args:
            batch: this worker's share; every worker brings as many rows.
            size: rows of a minibatch.
            rng: shuffles.
        """
        packed = Packed(batch)
        minibatches = packed.minibatches(size, rng)  # (K, B, F)
        with torch.no_grad():
            if not self._names:
                self._start(minibatches[0], packed.shapes)
            if self.comm.size == 1:
                at_once = UNROLLED if len(minibatches) % UNROLLED == 0 else 1
                for several in torch.split(minibatches, at_once):
                    self._steps_alone(several)
                return
            first, *others = minibatches.unbind(0)
            gradient, metrics = self._gradient(first)
            for minibatch in others:
                gradient, metrics = self._apply_then_gradient(self._sum(gradient), metrics, minibatch)
            self._apply(self._sum(gradient), metrics)

    def _sum(self, gradient: torch.Tensor) -> torch.Tensor:
        on_host = gradient.cpu()
        self.comm.sum_(on_host.numpy())
        return on_host.to(gradient.device)

    def take_metrics(self) -> dict[str, float]:
        """Return means, over workers and the steps since the last call, of the metrics and the gradient norm.

        Raises:
            FloatingPointError: where one of them is not finite, naming it.
        """
        *sums, steps = self.comm.mean_(self._sums.double().cpu().numpy()).tolist()
        self._sums.zero_()
        metrics = {name: value / steps for name, value in zip(self._names, sums, strict=True)}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{name} is {value}; the last good checkpoint is kept")
        return metrics

    def _start(self, minibatch: torch.Tensor, shapes: Mapping[str, torch.Size]) -> None:
        self._shapes = dict(shapes)
        _, metrics = self.loss(self.params.unflatten(self.params.vector), unpack(minibatch, shapes))
        self._names = [*metrics, "gradient_norm"]
        self._sums = torch.zeros(len(self._names) + 1, device=self.rate.device)
        if self.comm.size == 1:
            return
        # One worker per machine compiles; the others then find the code in the cache on disk.
        before = self.state_dict()
        for first in (True, False):
            if (self.comm.local_rank == 0) == first:
                self._apply(*self._apply_then_gradient(*self._gradient(minibatch), minibatch))
            self.comm.barrier()
        self.load_state_dict(before)
        self._sums.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return parameters and Adam's moments for a checkpoint."""
        return {
            "parameters": self.params.vector.cpu().clone(),
            "moment1": self.moment1.cpu().clone(),
            "moment2": self.moment2.cpu().clone(),
            "steps": self.steps.cpu().clone(),
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over a checkpoint's parameters and moments, in place."""
        self.params.vector.copy_(state["parameters"])
        self.moment1.copy_(state["moment1"])
        self.moment2.copy_(state["moment2"])
        self.steps.copy_(state["steps"])


class Packed:
    """The fields of a batch side by side in one float matrix: shuffled by one gather, passed as one argument."""

    def __init__(self, batch: Batch) -> None:
        rows = len(next(iter(batch.values())))
        self.shapes = {name: field.shape[1:] for name, field in batch.items()}
        self.matrix = torch.cat([field.reshape(rows, -1).float() for field in batch.values()], dim=1)  # (M, F)

    def minibatches(self, size: int, rng: np.random.Generator) -> torch.Tensor:
        """Return one epoch in minibatches (K, size, F), shuffled anew.

        Where `size` does not divide M, a different remainder is left out in each epoch.
        """
        count = len(self.matrix) // size
        order = rng.permutation(len(self.matrix))[: count * size]
        shuffled = self.matrix[torch.from_numpy(order).to(self.matrix.device)]
        return shuffled.view(count, size, -1)


def unpack(matrix: torch.Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Return the fields of a packed minibatch (B, F) as views; whole numbers come as floats."""
    parts = torch.split(matrix, [math.prod(shape) for shape in shapes.values()], dim=1)
    return {n: part.reshape(-1, *shape) for (n, shape), part in zip(shapes.items(), parts, strict=True)}
