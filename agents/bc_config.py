"""Hyper-parameters and metrics of behavioral cloning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from milozero.agents.policy_config import GRAD_NORM, LEARNING_RATE, EpochPolicyConfig
from milozero.helpers.config.params import param
from milozero.helpers.errors import UserError
from milozero.tracking.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class BCBaseConfig(EpochPolicyConfig):
    """Hyper-parameters of supervised learning of actions, for BC and DAgger."""

    bc_loss: str = param(
        "nll",
        "nll: negative log-likelihood of the expert's actions; mse: mean squared error of the policy's mean action",
        choices=("nll", "mse"),
    )

    def check_action_space(self, action_space: Any) -> None:
        """Check that the loss fits an action space.

        Raises:
            UserError: if the loss is the mean squared error and actions are discrete.
        """
        super().check_action_space(action_space)
        if self.bc_loss == "mse" and not action_space.shape:
            raise UserError("--bc_loss=mse needs continuous actions; use nll")


BC_METRICS = {
    "policy_loss": Metric(
        "update",
        "nats, or action²",
        "mean negative log-likelihood of the demonstrated actions, or with `bc_loss=mse` the mean squared error of "
        "the policy's most probable action; on the training steps",
        "falls, steeply at first",
        "Pomerleau 1991",
    ),
    "validation_loss": Metric(
        "update",
        "nats, or action²",
        "the same loss on the validation episodes, which are not trained on; empty if there are none "
        "(`bc_validation=0`)",
        "falls with `policy_loss`; if it rises again, the policy overfits",
    ),
    "entropy": Metric(
        "update", "nats", "mean entropy of the action distribution, summed over dimensions", "falls slowly"
    ),
    "grad_norm": GRAD_NORM,
    "learning_rate": LEARNING_RATE,
}


@dataclass(frozen=True, kw_only=True)
class BCConfig(BCBaseConfig):
    """Hyper-parameters of behavioral cloning."""

    METRICS: ClassVar[Mapping[str, Metric]] = BC_METRICS
    LEARNS_FROM_ROLLOUTS: ClassVar[bool] = False
    LEARNS_FROM_DEMOS: ClassVar[bool] = True

    bc_validation: float = param(
        0.1,
        "fraction of the demonstrations held out for validation: at least one whole episode, or blocks of "
        "consecutive steps if there is only one demonstration; 0 trains on all of them",
        low=0,
        high=0.9,
    )
    bc_patience: int = param(
        20,
        "early stopping: stop after this many iterations without a lower validation loss; 0 disables it",
        low=0,
        mutable_on_resume=True,
    )
