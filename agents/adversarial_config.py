"""Hyper-parameters and metrics that GAIL and AIRL share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milozero.agents.ppo_config import PPO_METRICS, PPOConfig
from milozero.helpers.config.params import param
from milozero.tracking.metrics import Metric

ADVERSARIAL_METRICS = {
    **PPO_METRICS,
    "d_loss": Metric(
        "discriminator",
        "nats",
        "mean cross-entropy of the discriminator on the expert's and on the policy's steps, added",
        "2 ln 2 = 1.39 when it cannot tell them; near 0 for long: too strong, the policy learns nothing from it",
        "Ho & Ermon 2016, eq. 14",
    ),
    "d_prob_expert": Metric(
        "discriminator", "share", "mean probability it gives the expert's steps of being the expert's", "towards 0.5"
    ),
    "d_prob_policy": Metric(
        "discriminator", "share", "mean probability it gives the policy's steps of being the expert's", "towards 0.5"
    ),
    "d_penalty": Metric(
        "discriminator",
        "–",
        "mean of the gradient penalty, without its coefficient; 0 with `d_penalty=none`",
        "small beside `d_loss`",
        "Gulrajani et al. 2017, eq. 3; Kodali et al. 2017",
    ),
    "d_reward": Metric(
        "discriminator", "reward", "mean reward that the discriminator gives the rollout's steps", "steady, or rises"
    ),
}


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(PPOConfig):
    """Hyper-parameters of a discriminator and its use, besides those of the policy."""

    METRICS: ClassVar[Mapping[str, Metric]] = ADVERSARIAL_METRICS
    LEARNS_FROM_DEMOS: ClassVar[bool] = True
    HAS_DISCRIMINATOR: ClassVar[bool] = True

    d_lr: float = param(3e-4, "learning rate of the discriminator, constant", low=0)
    d_batch_size: int = param(128, "steps of the policy, and as many of the expert, in its minibatch", low=1)
    d_steps: int = param(1, "passes over a rollout that it makes when it learns", low=1)
    g_steps: int = param(1, "iterations of the policy between these", low=1)
    d_reward: str = param(
        "positive",
        "−log(1 − D), never negative: rewards to live on; log D, never positive: to end; their sum: unbiased",
        choices=("positive", "negative", "unbiased"),
    )
    d_penalty: str = param(
        "wgan",
        "where its gradient is held to 1: between both (wgan), there but only from above (one_sided), around the "
        "expert's (dragan)",
        choices=("none", "wgan", "one_sided", "dragan"),
    )
    d_penalty_coef: float = param(10.0, "weight of that penalty", low=0)
    d_spectral_norm: bool = param(False, "spectral normalization of its layers")
    d_batch_norm: bool = param(False, "batch normalization in it, moments over all workers")
    d_ent_coef: float = param(1e-3, "weight of the entropy of its answers", low=0)
    d_label_smoothing: float = param(0.0, "the expert's label is 1 less this", low=0, high=0.5)
    d_ablation: str = param(
        "off",
        "instead of the expert's steps: noise (none), from which nothing can be learned but the reward's sign; or "
        "shuffled, each number from a step of its own, which leaves only how often it takes which value; neither "
        "starts warm",
        choices=("off", "shuffled", "none"),
    )
    bc_pretrain_epochs: int = param(
        0, "passes of behavioral cloning over the demonstrations before the first rollout", low=0
    )
