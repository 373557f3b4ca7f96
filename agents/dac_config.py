"""Hyper-parameters and metrics of DAC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milozero.agents.discriminator_config import D_METRICS, GAILDiscriminatorConfig, absorbing_states, reward_form
from milozero.agents.sac_config import SAC_METRICS, SACConfig
from milozero.agents.td3_config import TD3Config
from milozero.helpers.config.params import param
from milozero.tracking.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class DACConfig(GAILDiscriminatorConfig, SACConfig, TD3Config):
    """Hyper-parameters of the discriminator and of TD3 or SAC on its reward.

    `policy_delay` and the settings that only one of them has apply as in TD3 and SAC.
    """

    METRICS: ClassVar[Mapping[str, Metric]] = {
        **SAC_METRICS,
        **D_METRICS,
        "d_reward": Metric(
            "discriminator",
            "reward",
            "mean reward of the sampled steps, without the value of the absorbing state",
            "steady, or rises",
        ),
    }

    dac_agent: str = param("td3", "the algorithm that trains the policy", choices=("td3", "sac"))
    gamma: float = param(0.99, "discount factor γ", above=0, high=1)
    policy_delay: int = param(
        2, "updates of the critics per update of the policy and, with td3, of the targets", low=1, high=8
    )
    d_update_ratio: float = param(1.0, "discriminator updates per update of the critics", above=0, high=100)
    d_reward: str = reward_form("unbiased")
    d_absorbing: bool = absorbing_states(default=True)

    @property
    def policy_kind(self) -> str:
        """How actions follow from the last layer."""
        return TD3Config.POLICY_KIND if self.dac_agent == "td3" else SACConfig.POLICY_KIND
