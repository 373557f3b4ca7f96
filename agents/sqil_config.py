"""Hyper-parameters of SQIL."""

from __future__ import annotations

from dataclasses import dataclass

from milozero.agents.discriminator_config import ImitationRewardConfig
from milozero.agents.sac_config import SACConfig
from milozero.helpers.config.params import param


@dataclass(frozen=True, kw_only=True)
class SQILConfig(ImitationRewardConfig, SACConfig):
    """Hyper-parameters of SQIL."""

    expert_mix: float = param(
        0.5, "share of each batch that is drawn from the demonstrations of --expert_path", above=0, high=0.9
    )
