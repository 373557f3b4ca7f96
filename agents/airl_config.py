"""Hyper-parameters of AIRL."""

from __future__ import annotations

from dataclasses import dataclass

from milozero.agents.adversarial_config import AdversarialConfig
from milozero.helpers.config.params import param


@dataclass(frozen=True, kw_only=True)
class AIRLConfig(AdversarialConfig):
    """Hyper-parameters of AIRL."""

    d_state_only: bool = param(True, "the reward depends on the state alone, as is needed to use it elsewhere")
    d_penalty_coef: float = param(
        1.0, "weight of that penalty, which also bounds how much f can say against log π", low=0
    )
