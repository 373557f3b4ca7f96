"""Hyper-parameters and metrics of GAIL and AIRL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milozero.agents.discriminator_config import D_METRICS, DiscriminatorConfig, GAILDiscriminatorConfig
from milozero.agents.ppo_config import PPO_METRICS, PPOConfig
from milozero.helpers.config.params import param
from milozero.tracking.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(DiscriminatorConfig, PPOConfig):
    """Hyper-parameters of the discriminator and of PPO on its reward."""

    METRICS: ClassVar[Mapping[str, Metric]] = {**PPO_METRICS, **D_METRICS}

    d_steps: int = param(1, "passes over the rollout per discriminator update", low=1)
    g_steps: int = param(1, "policy updates per discriminator update", low=1)
    d_batch_norm: bool = param(
        False, "batch normalization in the discriminator, with moments of whole rollouts of all workers"
    )
    bc_pretrain_epochs: int = param(
        0,
        "epochs of behavioral cloning before the first rollout, to initialize the policy; 0 disables it, and so does "
        "--d_ablation",
        low=0,
    )


@dataclass(frozen=True, kw_only=True)
class GAILConfig(GAILDiscriminatorConfig, AdversarialConfig):
    """Hyper-parameters of GAIL."""


@dataclass(frozen=True, kw_only=True)
class AIRLConfig(AdversarialConfig):
    """Hyper-parameters of AIRL."""

    d_state_only: bool = param(
        True, "the reward g depends on the observation only, not on the action; required to transfer it"
    )
    d_penalty_coef: float = param(
        1.0, "coefficient of the gradient penalty, which also bounds how far f can differ from log π", low=0
    )
