"""Hyper-parameters of GAIL."""

from __future__ import annotations

from dataclasses import dataclass

from milozero.agents.adversarial_config import AdversarialConfig
from milozero.helpers.config.params import param


@dataclass(frozen=True, kw_only=True)
class GAILConfig(AdversarialConfig):
    """Hyper-parameters of GAIL."""

    d_state_only: bool = param(False, "the discriminator's input is the observation only, without the action")
    d_absorbing: bool = param(
        False, "terminal states lead to an absorbing state with a learned reward (Kostrikov et al. 2019)"
    )
