"""Hyper-parameters and metrics of DAgger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milozero.agents.bc_config import BC_METRICS, BCBaseConfig
from milozero.helpers.config.params import param
from milozero.tracking.metrics import Metric

DAGGER_METRICS = {
    **{name: BC_METRICS[name] for name in ("entropy", "grad_norm", "learning_rate")},
    "policy_loss": Metric(
        "update",
        "nats, or action²",
        "mean negative log-likelihood of the expert's actions, or with `bc_loss=mse` the mean squared error of the "
        "policy's most probable action",
        "falls, steeply at first",
        "Ross et al. 2011, alg. 3.1",
    ),
    "expert_share": Metric(
        "update",
        "share",
        "probability that the expert chooses the action of a step in this rollout",
        "1 at first, then 0",
        "Ross et al. 2011, β",
    ),
    "expert_distance": Metric(
        "update",
        "action, or share",
        "root mean squared difference between the policy's and the expert's most probable actions on this rollout, "
        "before the update, in the policy's units; for discrete actions, the fraction that differ",
        "falls; if it stays large, the policy cannot represent the expert",
    ),
    "buffer_size": Metric(
        "update", "observations", "labeled observations in the buffers of all workers", "grows up to the capacity"
    ),
}


@dataclass(frozen=True, kw_only=True)
class DAggerConfig(BCBaseConfig):
    """Hyper-parameters of DAgger."""

    METRICS: ClassVar[Mapping[str, Metric]] = DAGGER_METRICS

    expert_model: str = param("", "checkpoint folder of the expert, trained by any algorithm", is_path=True)
    expert_iter_num: str = param("best", "which checkpoint of --expert_model: an iteration, best or last")
    dagger_beta_iters: int = param(
        1,
        "iterations over which β, the probability that the expert chooses the action, falls linearly from 1 to 0; "
        "0: the policy always chooses",
        low=0,
    )
    dagger_buffer_size: int = param(
        100_000,
        "capacity of each worker's buffer of labeled observations; a full one keeps a uniform sample of all so far",
        low=1,
        high=10**7,
    )
