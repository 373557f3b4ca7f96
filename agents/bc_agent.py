"""Behavioral cloning (BC, Pomerleau 1991): supervised learning of the demonstrated actions.

An iteration makes `epochs` passes over the demonstrations. The rollout only measures the policy's return.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from milozero.agents.base import AgentContext
from milozero.agents.bc_config import BCBaseConfig, BCConfig
from milozero.agents.learning.optimizer import PackedBatch
from milozero.agents.policy import EpochPolicyAgent, PolicyAgent
from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import Transitions, split_transitions, subsample_transitions
from milozero.helpers.logging import logger, pluralize
from milozero.helpers.seeding import Purpose, make_rng


class BCBase(EpochPolicyAgent):
    """A policy trained to predict an expert's actions."""

    config: BCBaseConfig

    def loss(
        self, params: dict[str, torch.Tensor], batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss and metrics of a minibatch of expert steps, fields (B, ...).

        The loss is −E[log π(a|s)], or E[(μ(s) − a)²] with ``bc_loss=mse``.
        """
        obs, actions = batch["obs"], batch["actions"]
        log_probs, entropy, outputs = torch.func.functional_call(self.network, params, (obs, actions))
        loss = ((outputs - actions) ** 2).mean() if self.config.bc_loss == "mse" else -log_probs.mean()
        return loss, {"policy_loss": loss, "entropy": entropy.mean()}


class BCAgent(BCBase):
    """A policy trained on demonstrations. Each worker trains on an equal share of their steps.

    If the share is smaller than a minibatch, it is a single, smaller minibatch.

    Raises:
        UserError: if the loss does not fit the action space.
    """

    Config = BCConfig
    config: BCConfig

    def __init__(self, config: BCConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        self.best_loss, self.since_best = float("inf"), 0  # iterations since the validation loss was lowest
        self._demos: Transitions | None = None
        if context.demos:
            self._split_demos(context)

    def early_stop(self) -> str:
        """Return that the validation loss stopped improving; empty to continue."""
        patience = self.config.bc_patience
        if not patience or self.since_best < patience:
            return ""
        return f"the validation loss has not improved for bc_patience={patience} iterations"

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """Learn from the demonstrations and ignore the rollout; return the metrics of this iteration."""
        return self.train_on_demos(progress)

    def train_on_demos(self, progress: float) -> dict[str, float]:
        """Make `epochs` passes over the demonstrations and compute the validation loss; return the metrics.

        Args:
            progress: completed fraction of the run, from 0 to 1.

        Raises:
            NonFiniteError: if a loss, gradient or parameter is NaN or infinite; the message names it.
        """
        config, learning_rate = self.config, self.set_schedule(progress)
        batch_size = min(config.batch_size, len(self.train_obs))
        for _ in range(config.epochs):
            self.optimizer.run_epoch(self.train_batch, batch_size, self.rng)
        metrics = self.optimizer.pop_metrics()
        self.network.update_batch_norm(self.train_obs, self.comm)
        self.actor.refresh()
        validation_loss = self._validation_loss()
        improved = validation_loss < self.best_loss
        self.best_loss = min(self.best_loss, validation_loss)
        self.since_best = 0 if improved or np.isnan(validation_loss) else self.since_best + 1
        return metrics | {"validation_loss": validation_loss, "learning_rate": learning_rate}

    def init_from(self, source: PolicyAgent) -> dict[str, bool]:
        """Copy what fits; add the demonstrations to the normalizer unless it is frozen (collective)."""
        copied = super().init_from(source)
        if self._demos is not None:
            if not self.config.init_freeze_normalizer:
                self.obs_normalizer.update(self._demos.obs[self._train_rows], self.comm)
            self._make_batches(self._demos)
        return copied

    def state_dict(self) -> dict[str, Any]:
        """Return the network, Adam's moments, the normalizer and the state of early stopping."""
        return super().state_dict() | {"best_loss": self.best_loss, "since_best": self.since_best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state)
        if self._demos is not None:
            self._make_batches(self._demos)
        self.best_loss, self.since_best = float(state["best_loss"]), int(state["since_best"])

    def _split_demos(self, context: AgentContext) -> None:
        """Split the demonstrations into training and validation episodes, and both among the workers (collective)."""
        rng = make_rng(context.seed, Purpose.DEMONSTRATIONS)  # the same on every worker
        demos = subsample_transitions(context.demos, context.imitation.demo_subsampling, rng)
        train_rows, validation_rows = split_transitions(demos, self.config.bc_validation, rng)
        rank, size = self.comm.rank, self.comm.size
        if len(train_rows) < size:
            train_rows = np.resize(train_rows, size)  # repeats steps, so that every worker has one
        count = len(train_rows) // size  # the same on every worker
        if count < self.config.batch_size and rank == 0:
            steps = pluralize(count, "demonstrated step")
            logger.info(f"each worker has only {steps}: minibatches are smaller than --batch_size")
        self._demos = demos
        self._train_rows = train_rows[rank * count : (rank + 1) * count]
        self._validation_rows = validation_rows[rank::size]
        self.obs_normalizer.update(demos.obs[self._train_rows], self.comm)
        self._make_batches(demos)

    def _make_batches(self, demos: Transitions) -> None:
        """Normalize and pack this worker's steps."""

        def select(rows: np.ndarray) -> dict[str, torch.Tensor]:
            return {
                "obs": self.to_tensor(self.obs_normalizer(demos.obs[rows])),
                "actions": self.to_tensor(demos.actions[rows]),
            }

        train, self._validation_batch = select(self._train_rows), select(self._validation_rows)
        self.train_obs, self.train_batch = train["obs"], PackedBatch(train)

    def _validation_loss(self) -> float:
        """Return the mean loss on the validation steps of all workers (collective), NaN if there are none."""
        count = len(self._validation_batch["obs"])
        total = 0.0
        if count:
            with torch.no_grad():
                total = float(self.loss(dict(self.network.named_parameters()), self._validation_batch)[0]) * count
        total, total_count = self.comm.sum_(np.array([total, count]))
        return float(total / total_count) if total_count else float("nan")
