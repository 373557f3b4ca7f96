"""Hyper-parameters and metrics of TD3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milozero.agents.off_policy_config import BUFFER_METRICS, Q_METRICS, OffPolicyConfig
from milozero.helpers.config.params import param
from milozero.tracking.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class TD3Config(OffPolicyConfig):
    """Hyper-parameters of TD3."""

    METRICS: ClassVar[Mapping[str, Metric]] = {**Q_METRICS, **BUFFER_METRICS}
    POLICY_KIND: ClassVar[str] = "a deterministic policy"

    policy_delay: int = param(2, "updates of the critics per update of the policy and the targets", low=1, high=8)
    exploration_noise: float = param(
        0.1, "standard deviation of the noise on actions in training, where [−1, 1] spans the bounds", low=0
    )
    target_noise: float = param(0.2, "standard deviation of the noise on the target policy's actions", low=0)
    target_noise_clip: float = param(0.5, "clip the noise on the target policy's actions to ± this value", low=0)
