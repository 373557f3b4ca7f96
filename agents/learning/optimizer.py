"""From a loss to an optimizer step: one gradient, one all-reduce, clipping, Adam.

An algorithm defines a loss of (parameters, batch); everything here is the same for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import grad_and_value

from milozero.agents.learning.batches import Batch, PackedBatch, unpack
from milozero.agents.learning.compilation import compile_method, make_all_reduce
from milozero.agents.learning.flat_parameters import FlatParameters, Params
from milozero.helpers.comm import Comm
from milozero.helpers.errors import NonFiniteError

Loss = Callable[[Params, Batch], tuple[torch.Tensor, dict[str, torch.Tensor]]]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-5  # Adam's; PPO's usual epsilon (Huang et al. 2022, no. 3)
UNROLLED = 4  # steps in one compiled call, which itself costs as much as a third of a step


class Optimizer:
    """Adam (Kingma & Ba 2015) on a network's flat parameters, gradients averaged over all workers.

    Args:
        network: whose parameters are learned.
        loss: of (parameters by name, batch); returns the scalar and the metrics to log. A pure function:
            it calls the network through ``torch.func.functional_call``.
        learning_rate: of a parameter, by its name.
        clip_norm: largest norm of the whole gradient, after averaging; 0 for none.
        comm: the workers.
        compile: compile the steps with torch.compile; every batch must then have the same shapes.
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
        self.steps = 0  # taken so far
        self._shapes: dict[str, torch.Size] = {}  # of the batch's fields, without their first dimension
        self._names: list[str] = []  # of the metrics
        self._sums = torch.zeros(0)  # of the metrics since they were last taken, and last the number of steps
        self._averaged_over = comm  # the workers, but for the steps of the warm-up
        self._compile = compile
        self._train_steps: Any = self.train_steps
        self._all_reduce: Callable[[torch.Tensor], torch.Tensor] = self._sum
        if compile:
            self._all_reduce = make_all_reduce(lambda: self._averaged_over)
            self._train_steps = compile_method(self.train_steps, self.rate.device.type)

    def set_schedule(self, factor: float) -> None:
        """Set every learning rate to `factor` times its start value."""
        torch.mul(self.base_rate, factor, out=self.rate)

    def run_epoch(self, batch: PackedBatch, size: int, rng: np.random.Generator) -> None:
        """Learn from one epoch of `batch` in shuffled minibatches.

        Args:
            batch: this worker's share; every worker brings as many rows.
            size: rows of a minibatch.
            rng: shuffles.
        """
        self._learned_from = (self.params.vector.clone(), batch)
        minibatches = batch.minibatches(size, rng)  # (K, B, F)
        at_once = math.gcd(len(minibatches), UNROLLED)
        with torch.no_grad():
            if not self._names:
                self._warm_up(minibatches[:at_once], batch.shapes)
            corrections = self._bias_corrections(len(minibatches))
            several = (torch.split(rows, at_once) for rows in (minibatches, corrections))
            for arguments in zip(*several, strict=True):
                self._train_steps(*arguments)

    def train_steps(self, minibatches: torch.Tensor, corrections: torch.Tensor) -> None:
        """Take one step on each of the packed `minibatches` (K, B, F); `corrections` (K, 2) are of Adam's bias."""
        for minibatch, correction in zip(minibatches.unbind(), corrections.unbind(), strict=True):
            gradient, metrics = self.gradient(minibatch)
            if self.comm.size > 1:
                gradient = self._all_reduce(gradient)
            self.apply(gradient, metrics, correction)

    def gradient(self, minibatch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return this worker's gradient (P,) and metrics (M,) of the loss; nothing changes."""
        batch = unpack(minibatch, self._shapes)

        def loss_at(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            value, metrics = self.loss(self.params.unflatten(flat), batch)
            return value, torch.stack([metric.detach() for metric in metrics.values()])

        if self._compile:
            gradient, (_, metrics) = grad_and_value(loss_at, has_aux=True)(self.params.vector)
            return gradient, metrics
        # Not by torch.func, which imports the compiler: a second or more of every start.
        flat = self.params.vector.detach().requires_grad_()
        with torch.enable_grad():
            value, metrics = loss_at(flat)
            (gradient,) = torch.autograd.grad(value, flat)
        return gradient, metrics

    def apply(self, gradient: torch.Tensor, metrics: torch.Tensor, correction: torch.Tensor) -> None:
        """Take one Adam step with the clipped mean of a `gradient` (P,) summed over all workers; count `metrics`."""
        gradient = gradient * (1.0 / self.comm.size)
        norm = torch.linalg.vector_norm(gradient)
        if self.clip_norm:
            gradient = gradient * torch.clamp(self.clip_norm / (norm + 1e-6), max=1.0)
        self.moment1.lerp_(gradient, 1.0 - BETA1)
        self.moment2.mul_(BETA2).addcmul_(gradient, gradient, value=1.0 - BETA2)
        factor, epsilon = correction.unbind()
        self.params.vector.sub_(self.rate * factor * (self.moment1 / (self.moment2.sqrt() + epsilon)))
        self._sums.add_(torch.cat([metrics, torch.stack([norm, torch.ones_like(norm)])]))

    def _sum(self, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.to("cpu", copy=True)
        self.comm.sum_(total.numpy())
        return total.to(gradient.device)

    def _bias_corrections(self, count: int) -> torch.Tensor:
        """Count `count` more steps; return, for each, its factor of the learning rate and its epsilon, (count, 2).

        So Adam's bias is corrected once a step and not once a parameter (Kingma & Ba 2015, end of sec. 2).
        """
        steps = np.arange(self.steps + 1, self.steps + count + 1)
        self.steps += count
        root = np.sqrt(1.0 - BETA2**steps)
        corrections = np.stack([root / (1.0 - BETA1**steps), root * EPSILON], axis=1)
        return torch.from_numpy(corrections.astype(np.float32)).to(self.rate.device)

    def pop_metrics(self) -> dict[str, float]:
        """Return means, over workers and the steps since the last call, of the metrics and the gradient norm.

        Raises:
            NonFiniteError: on all workers, where one of them or a parameter is not finite, naming it.
        """
        *sums, steps = self.comm.mean_(self._sums.double().cpu().numpy()).tolist()
        self._sums.zero_()
        metrics = {name: value / steps for name, value in zip(self._names, sums, strict=True)}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._non_finite(f"{name} is {value}")
        if not torch.isfinite(self.params.vector).all():
            name = next(n for n, p in self.params.unflatten(self.params.vector).items() if not p.isfinite().all())
            raise self._non_finite(f"parameter {name} is not finite")
        return metrics

    def _non_finite(self, message: str) -> NonFiniteError:
        """Return what to raise after an epoch that went wrong, with its batch on the worker that it came from."""
        parameters, batch = self._learned_from
        fields = unpack(batch.matrix, batch.shapes)
        with torch.no_grad():  # the workers share a gradient, so all of them end up with it; whose loss began it?
            loss, _ = self.loss(self.params.unflatten(parameters), fields)
        guilty = self.comm.allgather(not bool(torch.isfinite(loss)))
        rank = guilty.index(True) if any(guilty) else 0
        whose = f"with the batch of worker {rank}" if any(guilty) else "which arose within the epoch on all workers"
        evidence = {"parameters": parameters.cpu(), **{f"batch.{n}": field.cpu() for n, field in fields.items()}}
        return NonFiniteError(f"{message}, {whose}", evidence, rank)

    def _warm_up(self, minibatches: torch.Tensor, shapes: Mapping[str, torch.Size]) -> None:
        self._shapes = dict(shapes)
        _, metrics = self.loss(self.params.unflatten(self.params.vector), unpack(minibatches[0], shapes))
        self._names = [*metrics, "grad_norm"]
        self._sums = torch.zeros(len(self._names) + 1, device=self.rate.device)
        if self.comm.size == 1 or not self._compile:
            return
        # One worker of each machine compiles; the others then find the code in the cache on disk. (Torch's file locks
        # keep machines apart that share a home.) Nobody is averaged with meanwhile, and what the trial steps change
        # is put back.
        before = self.state_dict()
        self._averaged_over = Comm()
        try:
            for first in (True, False):
                if (self.comm.local_rank == 0) == first:
                    self._train_steps(minibatches, self._bias_corrections(len(minibatches)))
                self.comm.barrier()
        finally:
            self._averaged_over = self.comm
        self.load_state_dict(before)
        self._sums.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return parameters and Adam's moments for a checkpoint."""
        return {
            "parameters": self.params.vector.cpu().clone(),
            "moment1": self.moment1.cpu().clone(),
            "moment2": self.moment2.cpu().clone(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a checkpoint's parameters and moments, in place."""
        self.params.vector.copy_(state["parameters"])
        self.moment1.copy_(state["moment1"])
        self.moment2.copy_(state["moment2"])
        self.steps = int(state["steps"])
