"""Hyper-parameters of every algorithm that trains a policy network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import param
from milozero.tracking.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Hyper-parameters of a policy and of how it is learned."""

    METRICS: ClassVar[Mapping[str, Metric]] = {}  # what `Agent.update` returns
    FROM_ROLLOUTS: ClassVar[bool] = True  # minibatches are parts of rollouts
    LEARNS_FROM_DEMOS: ClassVar[bool] = False  # others only compare with the return of demonstrations
    HAS_DISCRIMINATOR: ClassVar[bool] = False

    p_perception_stack: str = param("mlp_64", "hidden layers of the policy", check=parse_hidden_sizes)
    activation: str = param("tanh", "activation of hidden layers", choices=("tanh", "relu", "elu"))
    layer_norm: bool = param(False, "layer normalization in every network")
    batch_norm_all: bool = param(False, "batch normalization in every network, moments over all workers")
    log_std_init: float = param(0.0, "first log standard deviation of continuous actions", low=-20, high=2)

    p_lr: float = param(3e-4, "learning rate of the policy (and of shared layers)", low=0)
    lr_schedule: str = param("linear", "learning rates over the run", choices=("linear", "constant"))
    clip_norm: float = param(0.5, "largest gradient norm, 0 for no limit", low=0)
    batch_size: int = param(64, "a worker's share of a minibatch, steps", low=1)
    epochs: int = param(10, "passes over what an iteration learns from", low=1)

    normalize_observations: bool = param(True, "observations to mean 0, deviation 1, by running moments")
    clip_obs: float = param(10.0, "limit of normalized observations", above=0)

    def check_action_space(self, action_space: Any) -> None:
        """Check that these hyper-parameters fit an action space.

        Raises:
            UserError: if they do not.
        """
