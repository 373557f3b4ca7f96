"""Behavioral cloning (Pomerleau 1991), whole: the demonstrations' actions, learned like labels.

An iteration makes some passes over the demonstrations; its rollout is played to see what the policy has learned, and
nothing is learned from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from milozero.agents.base import AgentContext
from milozero.agents.normalizer import ObservationNormalizer
from milozero.agents.policy import PolicyAgent, PolicyConfig, make_mlp
from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import Transitions, subsample_transitions
from milozero.helpers.config.params import param
from milozero.helpers.errors import UserError
from milozero.helpers.lazy import lazy_import
from milozero.helpers.seeding import Purpose, generator, integer
from milozero.tracking.metrics import Metric

if TYPE_CHECKING:
    import torch

    from milozero.agents.learning import optimizer as optimizers
    from milozero.agents.nn import networks
else:
    torch = lazy_import("torch")
    networks = lazy_import("milozero.agents.nn.networks")
    optimizers = lazy_import("milozero.agents.learning.optimizer")


@dataclass(frozen=True, kw_only=True)
class CloningConfig(PolicyConfig):
    """Hyper-parameters of learning actions like labels."""

    bc_loss: str = param("nll", "negative log-likelihood, or mean squared error", choices=("nll", "mse"))


@dataclass(frozen=True, kw_only=True)
class BCConfig(CloningConfig):
    """Hyper-parameters of behavioral cloning."""

    FROM_ROLLOUTS: ClassVar[bool] = False

    bc_validation: float = param(0.1, "share of the steps that is kept aside to see when to stop", low=0, high=0.9)
    bc_patience: int = param(
        20, "end after so many iterations without a better validation loss; 0: never", low=0, mutable_on_resume=True
    )


BC_METRICS = {
    "policy_loss": Metric(
        "update",
        "nats, or action²",
        "−mean log-probability of the demonstrations' actions, or with `bc_loss=mse` the mean squared error of the "
        "most probable ones; of the steps that are learned from",
        "falls, steeply at first",
        "Pomerleau 1991",
    ),
    "validation_loss": Metric(
        "update",
        "nats, or action²",
        "the same of the steps that are kept aside; empty where there are none",
        "falls with `policy_loss`; when it turns and rises, the policy learns these steps by heart",
    ),
    "entropy": Metric(
        "update", "nats", "mean entropy of the action distribution, summed over dimensions", "falls slowly"
    ),
    "grad_norm": Metric(
        "update",
        "–",
        "Euclidean norm of the gradient averaged over the workers, before `clip_norm` cuts it",
        "steady within a factor of a few",
    ),
    "learning_rate": Metric(
        "update", "–", "of this update: `p_lr` as `lr_schedule` has it", "a line to 0, or constant"
    ),
}


class BCBase(PolicyAgent):
    """A policy that learns an expert's actions like labels.

    Raises:
        UserError: where the loss does not fit the actions.
    """

    config: CloningConfig

    @staticmethod
    def check_actions(config: CloningConfig, action_space: Any) -> None:
        """Refuse squared errors of what is no number."""
        if config.bc_loss == "mse" and not action_space.shape:
            raise UserError("--bc_loss=mse needs continuous actions; use nll")

    def __init__(
        self, config: CloningConfig, observation_size: int, action_space: Any, context: AgentContext
    ) -> None:
        self.check_actions(config, action_space)
        self.config = config
        self.comm = context.comm
        self.device = torch.device(context.device)
        rng = torch.Generator().manual_seed(integer(context.seed, Purpose.PARAMETERS))
        policy = make_mlp(config, config.p_perception_stack, observation_size, rng)
        head = networks.make_head(action_space, policy.outputs, config.log_std_init, rng)
        self.network = networks.Policy(policy, head).to(self.device)
        self.optimizer = optimizers.Optimizer(
            self.network,
            self.loss,
            lambda name: config.p_lr,
            clip_norm=config.clip_norm,
            comm=context.comm,
            compile=context.compile,
        )
        self.actor = networks.Actor(self.network)
        self.observations = ObservationNormalizer(observation_size, config.clip_obs, config.normalize_observations)
        self.rng = generator(context.seed, Purpose.SHUFFLE, context.comm.rank, context.iteration)

    def set_schedule(self, progress: float) -> float:
        """Set the learning rate for how far the run is, from 0 to 1; return it."""
        factor = 1.0 - progress if self.config.lr_schedule == "linear" else 1.0
        self.optimizer.set_schedule(factor)
        return self.config.p_lr * factor

    def loss(
        self,
        params: dict[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a minibatch of the expert's steps, fields (B, ...)."""
        obs, actions = batch["obs"], batch["actions"]
        log_probs, entropy, outputs = torch.func.functional_call(self.network, params, (obs, actions))
        loss = ((outputs - actions) ** 2).mean() if self.config.bc_loss == "mse" else -log_probs.mean()
        return loss, {"policy_loss": loss, "entropy": entropy.mean()}


class BCAgent(BCBase):
    """A policy that learns from demonstrations alone; each worker has its share of their steps.

    Raises:
        UserError: where a worker's share is smaller than a minibatch.
    """

    Config = BCConfig
    METRICS = BC_METRICS
    LEARNS_FROM_DEMOS = True
    DISCRIMINATES = False
    config: BCConfig

    def __init__(self, config: BCConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        self.best_loss, self.since_best = float("inf"), 0
        self._steps: Transitions | None = None
        self.first_action = int(getattr(action_space, "start", 0))
        if context.demos:
            self._take(context)

    @property
    def finished(self) -> str:
        """Why there is nothing more to learn; empty while there is."""
        patience = self.config.bc_patience
        if not patience or self.since_best < patience:
            return ""
        return f"the validation loss has not fallen for bc_patience={patience} iterations"

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """Learn from the demonstrations; the rollout only shows how the policy does. Metrics are of this iteration.

        Raises:
            NonFiniteError: where a loss, gradient or parameter is no longer finite, naming it.
        """
        return self.clone(progress)

    def clone(self, progress: float) -> dict[str, float]:
        """Make `epochs` passes over the demonstrations; `progress` goes from 0 to 1 over the run."""
        config, rate = self.config, self.set_schedule(progress)
        for _ in range(config.epochs):
            self.optimizer.run_epoch(self.learned, config.batch_size, self.rng)
        metrics = self.optimizer.pop_metrics()
        self.network.update_batch_norm(self.learned_obs, self.comm)
        self.actor.refresh()
        validation = self._validation_loss()
        better = validation < self.best_loss
        self.best_loss = min(self.best_loss, validation)
        self.since_best = 0 if better or np.isnan(validation) else self.since_best + 1
        return metrics | {"validation_loss": validation, "learning_rate": rate}

    def state_dict(self) -> dict[str, Any]:
        """Return networks, Adam's moments, the normalizer, and how the validation goes."""
        return super().state_dict() | {"best_loss": self.best_loss, "since_best": self.since_best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        super().load_state_dict(state)
        if self._steps is not None:
            self._normalize()
        self.best_loss, self.since_best = float(state["best_loss"]), int(state["since_best"])

    def rank_state_dict(self) -> dict[str, Any]:
        """Return this worker's shuffling."""
        return {"shuffle": self.rng.bit_generator.state}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a worker's state."""
        self.rng.bit_generator.state = state["shuffle"]

    def _take(self, context: AgentContext) -> None:
        """Draw the steps to learn from and those to keep aside, and take this worker's share of both (collective)."""
        rng = generator(context.seed, Purpose.DEMONSTRATIONS)  # the same on every worker
        steps = subsample_transitions(context.demos, context.imitation.demo_subsampling, rng, self.first_action)
        order = rng.permutation(len(steps))
        aside = int(len(order) * self.config.bc_validation)
        rank, size = self.comm.rank, self.comm.size
        count = (len(order) - aside) // size  # alike on all workers, who take as many minibatches
        if count < self.config.batch_size:
            have = f"each worker has {count} steps of demonstrations to learn from"
            raise UserError(f"--batch_size={self.config.batch_size}, but {have}")
        self._steps = steps
        self._mine, self._aside = order[aside:][rank * count : (rank + 1) * count], order[:aside][rank::size]
        self.observations.update(steps.obs[self._mine], self.comm)
        self._normalize()

    def _normalize(self) -> None:
        """Bring this worker's steps to the form in which they are learned from, as the policy will see others."""
        steps = self._steps
        assert steps is not None

        def fields(rows: np.ndarray) -> dict[str, torch.Tensor]:
            return {
                "obs": self.tensor(self.observations(steps.obs[rows])),
                "actions": self.tensor(steps.actions[rows]),
            }

        learned, self._kept = fields(self._mine), fields(self._aside)
        self.learned_obs, self.learned = learned["obs"], optimizers.PackedBatch(learned)

    def _validation_loss(self) -> float:
        """Return the mean loss of the steps that all workers keep aside; NaN where there are none."""
        count = len(self._kept["obs"])
        total = 0.0
        if count:
            with torch.no_grad():
                total = float(self.loss(dict(self.network.named_parameters()), self._kept)[0]) * count
        total, counted = self.comm.sum_(np.array([total, count]))
        return float(total / counted) if counted else float("nan")
