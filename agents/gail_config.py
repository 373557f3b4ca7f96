"""Hyper-parameters of GAIL."""

from __future__ import annotations

from dataclasses import dataclass

from milozero.agents.adversarial_config import AdversarialConfig
from milozero.helpers.config.params import param


@dataclass(frozen=True, kw_only=True)
class GAILConfig(AdversarialConfig):
    """Hyper-parameters of GAIL."""

    d_state_only: bool = param(False, "it sees observations alone, no actions")
    d_absorbing: bool = param(
        False, "what comes after an episode that ended by its own rules is a state of its own, for ever"
    )
