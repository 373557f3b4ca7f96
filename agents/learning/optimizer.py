"""The optimizer: gradient → one all-reduce → clipping → Adam.

An algorithm defines a loss of (parameters, batch). Everything here is the same for all algorithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import grad_and_value

from milozero.agents.learning.compilation import compile_method, make_all_reduce
from milozero.agents.learning.flat_parameters import FlatParameters, Params
from milozero.helpers.comm import Comm
from milozero.helpers.errors import NonFiniteError

Batch = Mapping[str, torch.Tensor]
Loss = Callable[[Params, Batch], tuple[torch.Tensor, dict[str, torch.Tensor]]]

ADAM_BETA1, ADAM_BETA2 = 0.9, 0.999
ADAM_EPSILON = 1e-5  # PPO's default (Huang et al. 2022, no. 3)
STEPS_PER_CALL = 4  # optimizer steps per call of compiled code; the overhead of a call is a third of a step


class PackedBatch:
    """The fields (M, ...) of a batch, flattened and concatenated to one float32 matrix (M, F).

    Shuffling is then one gather, and compiled code takes one argument.
    """

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


@dataclass(frozen=True)
class Delay:
    """Trains all parameters in every `period`-th step, and only the first `count` in the others."""

    count: int
    period: int
    loss: Loss  # of the first `count` parameters, for the steps that train only these


class Optimizer:
    """Adam (Kingma & Ba 2015) on a network's flat parameters, with gradients averaged over all workers.

    Args:
        network: the network to train.
        loss: function of (parameters by name, batch) that returns the scalar loss and the metrics to log. It must be
            pure, and call the network through ``torch.func.functional_call``.
        learning_rate: function from a parameter's name to its learning rate.
        clip_norm: maximum norm of the averaged gradient; 0 disables clipping.
        comm: the workers.
        compile: compile the steps with torch.compile. All batches must then have the same shapes.
        epsilon: Adam's ε.
        delay: trains some parameters in every step, and the others less often.
        after_step: called after each step, with whether it trained all parameters. The tensors that it changes must
            be in `changed_after_step`.
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
        epsilon: float = ADAM_EPSILON,
        delay: Delay | None = None,
        after_step: Callable[[bool], None] = lambda full: None,
    ) -> None:
        self.params = FlatParameters(network)
        self.loss = loss
        self.epsilon = epsilon
        self.delay = delay or Delay(self.params.size, 1, loss)
        # (P,) bool: parameters that every step trains
        self._each_step = torch.arange(self.params.size, device=self.params.vector.device) < self.delay.count
        self.after_step = after_step
        self.changed_after_step: list[torch.Tensor] = []
        self.clip_norm = clip_norm
        self.comm = comm
        self.base_lr = self.params.fill(learning_rate)  # (P,)
        self.lr = self.base_lr.clone()
        self.moment1 = torch.zeros_like(self.base_lr)  # m, running mean of the gradient
        self.moment2 = torch.zeros_like(self.base_lr)  # v, running mean of its square
        self.steps = 0
        self._shapes: dict[str, torch.Size] = {}  # of the batch's fields, without their first dimension
        self._metric_names: list[str] = []
        self._metric_sums = torch.zeros(0)  # since the last `pop_metrics`; the last element counts the steps
        self._reduce_comm = comm  # a single worker during `_warm_up`
        self._compile = compile
        self._train_steps: Any = self.train_steps
        self._all_reduce: Callable[[torch.Tensor], torch.Tensor] = self._all_reduce_eager
        if compile:
            self._all_reduce = make_all_reduce(lambda: self._reduce_comm)
            self._train_steps = compile_method(self.train_steps, self.lr.device.type)

    def set_schedule(self, factor: float) -> None:
        """Set every learning rate to `factor` times its initial value."""
        torch.mul(self.base_lr, factor, out=self.lr)

    def freeze(self, is_frozen: Callable[[str], bool]) -> None:
        """Set the learning rate to 0 for parameters whose names `is_frozen` selects, until `set_schedule`."""
        self.lr.mul_(self.params.fill(lambda name: 0.0 if is_frozen(name) else 1.0))

    def run_epoch(self, batch: PackedBatch, size: int, rng: np.random.Generator) -> None:
        """Take one optimizer step for each shuffled minibatch of `batch` (collective).

        Args:
            batch: this worker's data, with the same number of rows on every worker.
            size: rows per minibatch.
            rng: shuffles the rows.
        """
        minibatches = batch.minibatches(size, rng)  # (K, B, F)
        self._run(batch, minibatches, math.gcd(len(minibatches), STEPS_PER_CALL))

    def run_steps(self, batch: PackedBatch, count: int, chunk: int) -> None:
        """Take one step on each of `count` equal parts of the rows of `batch`, in their order (collective).

        Args:
            batch: this worker's data, with the same number of rows on every worker.
            count: number of steps, a multiple of `chunk`.
            chunk: steps per call of compiled code, a multiple of the delay's period and always the same.
        """
        self._run(batch, batch.matrix.view(count, -1, batch.matrix.shape[1]), chunk)

    def _run(self, batch: PackedBatch, minibatches: torch.Tensor, chunk: int) -> None:
        """Take one step on each packed minibatch (K, B, F) of `batch`, `chunk` of them per call of compiled code."""
        self._epoch_start = self.params.vector.clone(), batch, self._copy_changed()
        with torch.no_grad():
            if not self._metric_names:
                self._warm_up(minibatches[:chunk], batch.shapes)
            corrections = self._bias_corrections(len(minibatches))
            for arguments in zip(torch.split(minibatches, chunk), torch.split(corrections, chunk), strict=True):
                self._train_steps(*arguments)

    def train_steps(self, minibatches: torch.Tensor, corrections: torch.Tensor) -> None:
        """Take one step on each packed minibatch (K, B, F), with its `_bias_corrections` (K, 2 G)."""
        for index, (minibatch, correction) in enumerate(zip(minibatches.unbind(), corrections.unbind(), strict=True)):
            full = (index + 1) % self.delay.period == 0
            gradient, metrics = self.gradient(minibatch, full=full)
            if self.comm.size > 1:
                gradient = self._all_reduce(gradient)
            self.apply(gradient, metrics, correction, full=full)
            self.after_step(full)

    def gradient(self, minibatch: torch.Tensor, *, full: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Return this worker's gradient and metrics (M,) on a packed minibatch (B, F).

        The gradient is that of all parameters, (P,), if `full`; else of those that every step trains.
        """
        batch, delay = unpack(minibatch, self._shapes), self.delay
        loss, count = (self.loss, self.params.size) if full else (delay.loss, delay.count)

        def loss_at(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            value, metrics = loss(self.params.unflatten(flat), batch)
            return value, torch.stack([metric.detach() for metric in metrics.values()])

        vector = self.params.vector[:count]
        if self._compile:
            gradient, (_, metrics) = grad_and_value(loss_at, has_aux=True)(vector)
            return gradient, metrics
        # Not torch.func, which imports the compiler: that adds a second or more to every start.
        flat = vector.detach().requires_grad_()
        with torch.enable_grad():
            value, metrics = loss_at(flat)
            (gradient,) = torch.autograd.grad(value, flat)
        return gradient, metrics

    def apply(
        self, gradient: torch.Tensor, metrics: torch.Tensor, correction: torch.Tensor, *, full: bool = True
    ) -> None:
        """Average, clip and apply a gradient that is summed over all workers; accumulate the `metrics` if `full`."""
        gradient = gradient * (1.0 / self.comm.size)
        norm = torch.linalg.vector_norm(gradient)
        if self.clip_norm:
            gradient = gradient * torch.clamp(self.clip_norm / (norm + 1e-6), max=1.0)
        # Adam: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², θ ← θ − α m̂ / (√v̂ + ε)
        rate1: Any = 1.0 - ADAM_BETA1
        decay2: Any = ADAM_BETA2
        lr = self.lr
        factor, epsilon = correction.view(-1, 2).unbind()[0]
        if self.delay.period > 1:
            # Whole vectors and masks: compiled code would copy a vector for every slice of it that changes.
            factor, epsilon = torch.where(self._each_step, correction.view(2, 2, 1)[0], correction.view(2, 2, 1)[1])
            if not full:
                gradient = torch.cat([gradient, gradient.new_zeros(self.params.size - self.delay.count)])
                rate1, decay2 = self._each_step * rate1, torch.where(self._each_step, decay2, 1.0)
                lr = self._each_step * lr
        self.moment1.lerp_(gradient, rate1)
        self.moment2.mul_(decay2).addcmul_(gradient, gradient, value=1.0 - ADAM_BETA2)
        self.params.vector.sub_(lr * factor * (self.moment1 / (self.moment2.sqrt() + epsilon)))
        if full:
            self._metric_sums.add_(torch.cat([metrics, torch.stack([norm, torch.ones_like(norm)])]))

    def _all_reduce_eager(self, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.to("cpu", copy=True)
        self.comm.sum_(total.numpy())
        return total.to(gradient.device)

    def _bias_corrections(self, count: int) -> torch.Tensor:
        """Return (√(1 − β₂ᵗ) / (1 − β₁ᵗ), ε √(1 − β₂ᵗ)) for the next `count` steps t, (count, 2 G).

        This factor of the learning rate and this ε correct Adam's bias once per step instead of once per parameter
        (Kingma & Ba 2015, end of sec. 2). With a delay, G = 2, and the second group has taken fewer steps.
        """
        steps = np.arange(self.steps + 1, self.steps + count + 1)
        self.steps += count
        period, corrections = self.delay.period, []
        for taken in (steps, np.maximum(steps // period, 1))[: 1 + (period > 1)]:
            root = np.sqrt(1.0 - ADAM_BETA2**taken)
            corrections += [root / (1.0 - ADAM_BETA1**taken), root * self.epsilon]
        return torch.from_numpy(np.stack(corrections, axis=1).astype(np.float32)).to(self.lr.device)

    def pop_metrics(self) -> dict[str, float]:
        """Return the metrics and the gradient norm, averaged over workers and steps since the last call (collective).

        Raises:
            NonFiniteError: on all workers, if a metric or parameter is NaN or infinite; the message names it.
        """
        *sums, steps = self.comm.mean_(self._metric_sums.double().cpu().numpy()).tolist()
        self._metric_sums.zero_()
        metrics = {name: value / steps for name, value in zip(self._metric_names, sums, strict=True)}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._nonfinite_error(f"{name} is {value}")
        if not torch.isfinite(self.params.vector).all():
            name = next(n for n, p in self.params.unflatten(self.params.vector).items() if not p.isfinite().all())
            raise self._nonfinite_error(f"parameter {name} is not finite")
        return metrics

    def _nonfinite_error(self, message: str) -> NonFiniteError:
        """Return the error for the last epoch, with its initial parameters and its batch as evidence (collective).

        The all-reduce spreads a non-finite gradient to all workers. The worker that caused it is the one
        whose loss is non-finite even with the initial parameters.
        """
        params, batch, changed = self._epoch_start
        fields = unpack(batch.matrix, batch.shapes)
        self._restore_changed(changed)
        with torch.no_grad():
            loss, _ = self.loss(self.params.unflatten(params), fields)
        nonfinite = self.comm.allgather(not bool(torch.isfinite(loss)))
        rank = nonfinite.index(True) if any(nonfinite) else 0
        cause = f"caused by the batch of worker {rank}" if any(nonfinite) else "caused by a step within the epoch"
        evidence = {"parameters": params.cpu(), **{f"batch.{name}": field.cpu() for name, field in fields.items()}}
        return NonFiniteError(f"{message}, {cause}", evidence, rank)

    def _warm_up(self, minibatches: torch.Tensor, shapes: Mapping[str, torch.Size]) -> None:
        """Set up the metrics; with several workers, compile the steps on one worker per machine (collective)."""
        self._shapes = dict(shapes)
        _, metrics = self.loss(self.params.unflatten(self.params.vector), unpack(minibatches[0], shapes))
        self._metric_names = [*metrics, "grad_norm"]
        self._metric_sums = torch.zeros(len(self._metric_names) + 1, device=self.lr.device)
        if self.comm.size == 1 or not self._compile:
            return
        # One worker per machine compiles; then the others load the code from the cache on disk. Torch's file locks
        # synchronize machines that share a home directory. These steps do not communicate and are undone.
        state, changed = self.state_dict(), self._copy_changed()
        self._reduce_comm = Comm()
        try:
            for compiles in (True, False):
                if (self.comm.local_rank == 0) == compiles:
                    self._train_steps(minibatches, self._bias_corrections(len(minibatches)))
                self.comm.barrier()
        finally:
            self._reduce_comm = self.comm
        self.load_state_dict(state)
        self._restore_changed(changed)
        self._metric_sums.zero_()

    def _copy_changed(self) -> list[torch.Tensor]:
        return [tensor.clone() for tensor in self.changed_after_step]

    def _restore_changed(self, copies: list[torch.Tensor]) -> None:
        for tensor, before in zip(self.changed_after_step, copies, strict=True):
            tensor.copy_(before)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the parameters and Adam's state."""
        return {
            "parameters": self.params.vector.cpu().clone(),
            "moment1": self.moment1.cpu().clone(),
            "moment2": self.moment2.cpu().clone(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, in place.

        Raises:
            ValueError: if the number of steps is out of range.
        """
        if not 0 <= state["steps"] < 2**63:
            raise ValueError(f"the optimizer took {state['steps']} steps")
        self.params.vector.copy_(state["parameters"])
        self.moment1.copy_(state["moment1"])
        self.moment2.copy_(state["moment2"])
        self.steps = int(state["steps"])
