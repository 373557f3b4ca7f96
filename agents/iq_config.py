"""Hyper-parameters and metrics of IQ-Learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milozero.agents.sac_config import SAC_METRICS
from milozero.agents.sqil_config import SQILConfig
from milozero.helpers.config.params import param
from milozero.tracking.metrics import Metric

IQ_METRICS: Mapping[str, Metric] = {
    "q_loss": Metric(
        "update",
        "reward",
        "mean V(s) − γ V'(s') − mean reward of the expert's steps + mean reward² / (4 `iq_alpha`)",
        "negative; steady",
        "Garg et al. 2021, eq. 9",
    ),
    "iq_reward_expert": Metric(
        "update",
        "reward",
        "mean reward Q(s, a) − γ V(s') that the critics imply for the expert's steps",
        "above `iq_reward_policy`; at most 2 `iq_alpha` / `expert_mix`, where the policy never goes",
        "Garg et al. 2021, eq. 9",
    ),
    "iq_reward_policy": Metric(
        "update", "reward", "the same for the policy's own steps", "approaches that of the expert"
    ),
}


@dataclass(frozen=True, kw_only=True)
class IQConfig(SQILConfig):
    """Hyper-parameters of IQ-Learn."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        **{name: metric for name, metric in SAC_METRICS.items() if name != "td_error"},
        **IQ_METRICS,
    }

    ent_coef: float | None = param(
        0.01, "temperature α, the weight of the entropy (none: adapted to --target_entropy)", above=0
    )
    iq_alpha: float = param(
        0.5, "bounds the learned reward: the coefficient of its χ² regularization is 1 / (4 iq_alpha)", above=0
    )
