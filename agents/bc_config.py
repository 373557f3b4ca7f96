"""Hyper-parameters and metrics of behavioral cloning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from milozero.agents.policy_config import PolicyConfig
from milozero.helpers.config.params import param
from milozero.helpers.errors import UserError
from milozero.tracking.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class CloningConfig(PolicyConfig):
    """Hyper-parameters of learning actions like labels."""

    bc_loss: str = param("nll", "negative log-likelihood, or mean squared error", choices=("nll", "mse"))

    def check_action_space(self, action_space: Any) -> None:
        """Check that the loss fits an action space.

        Raises:
            UserError: if the loss is the squared error and actions are discrete.
        """
        if self.bc_loss == "mse" and not action_space.shape:
            raise UserError("--bc_loss=mse needs continuous actions; use nll")


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


@dataclass(frozen=True, kw_only=True)
class BCConfig(CloningConfig):
    """Hyper-parameters of behavioral cloning."""

    METRICS: ClassVar[Mapping[str, Metric]] = BC_METRICS
    FROM_ROLLOUTS: ClassVar[bool] = False
    LEARNS_FROM_DEMOS: ClassVar[bool] = True

    bc_validation: float = param(0.1, "share of the steps that is kept aside to see when to stop", low=0, high=0.9)
    bc_patience: int = param(
        20, "end after so many iterations without a better validation loss; 0: never", low=0, mutable_on_resume=True
    )
