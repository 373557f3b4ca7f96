"""Hyper-parameters of AIRL."""

from __future__ import annotations

from dataclasses import dataclass

from milozero.agents.adversarial_config import AdversarialConfig
from milozero.helpers.config.params import param


@dataclass(frozen=True, kw_only=True)
class AIRLConfig(AdversarialConfig):
    """Hyper-parameters of AIRL."""

    d_state_only: bool = param(
        True, "the reward g depends on the observation only, not on the action; required to transfer it"
    )
    d_penalty_coef: float = param(
        1.0, "coefficient of the gradient penalty, which also bounds how far f can differ from log π", low=0
    )
