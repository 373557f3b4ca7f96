"""Hyper-parameters and metrics of SAC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milozero.agents.off_policy_config import BUFFER_METRICS, Q_METRICS, OffPolicyConfig
from milozero.helpers.config.params import param
from milozero.tracking.metrics import Metric

SAC_METRICS = {
    **Q_METRICS,
    "entropy": Metric(
        "update",
        "nats",
        "mean −log π of sampled actions, in the policy's units",
        "approaches `target_entropy` and stays there",
        "Haarnoja et al. 2018b, sec. 5",
    ),
    "temperature": Metric(
        "update",
        "return",
        "α, the weight of the entropy",
        "falls at first, then stays within a factor of a few; if it grows without end, the values diverge, or the "
        "policy cannot reach `target_entropy`",
        "Haarnoja et al. 2018b, eq. 18",
    ),
    **BUFFER_METRICS,
}


@dataclass(frozen=True, kw_only=True)
class SACConfig(OffPolicyConfig):
    """Hyper-parameters of SAC."""

    METRICS: ClassVar[Mapping[str, Metric]] = SAC_METRICS
    POLICY_KIND: ClassVar[str] = "a squashed Gaussian policy"

    ent_coef: float | None = param(
        None, "temperature α, the weight of the entropy (default: adapted to --target_entropy)", above=0
    )
    ent_lr: float = param(3e-4, "learning rate of log α", low=0)
    target_entropy: float | None = param(
        None, "entropy that α is adapted to, in nats (default: −1 per action dimension)"
    )
