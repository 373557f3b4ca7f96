"""Hyper-parameters and metrics of DAgger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milozero.agents.bc_config import BC_METRICS, CloningConfig
from milozero.helpers.config.params import param, usable_path
from milozero.tracking.metrics import Metric

DAGGER_METRICS = {
    **{name: BC_METRICS[name] for name in ("entropy", "grad_norm", "learning_rate")},
    "policy_loss": Metric(
        "update",
        "nats, or action²",
        "−mean log-probability of the expert's actions, or with `bc_loss=mse` the mean squared error of the most "
        "probable ones",
        "falls, steeply at first",
        "Ross et al. 2011, alg. 3.1",
    ),
    "expert_share": Metric(
        "update", "share", "of the steps, those that the expert steers", "1 at first, then 0", "Ross et al. 2011, β"
    ),
    "expert_distance": Metric(
        "update",
        "action, or share",
        "root mean squared distance between the policy's and the expert's most probable actions where the rollout "
        "came, before the update; of a finite set, the share in which they differ",
        "falls; where it stays large, the policy cannot do what the expert does",
    ),
    "buffer_size": Metric("update", "observations", "that all workers keep to learn from", "grows up to its limit"),
}


@dataclass(frozen=True, kw_only=True)
class DAggerConfig(CloningConfig):
    """Hyper-parameters of DAgger."""

    METRICS: ClassVar[Mapping[str, Metric]] = DAGGER_METRICS

    expert_model: str = param(
        "", "the expert, which learned by any algorithm: its folder of checkpoints", check=usable_path
    )
    expert_iter_num: str = param("best", "which of them: an iteration, best or last")
    dagger_beta_iters: int = param(
        1, "iterations over which the share of steps that the expert steers falls from 1 to 0", low=0
    )
    dagger_buffer_size: int = param(
        100_000, "observations that a worker keeps; of more, a random choice of all so far", low=1, high=10**7
    )
