"""Hyper-parameters and metrics of rewards that follow from demonstrations, in particular of a discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milozero.helpers.config.params import param
from milozero.tracking.metrics import Metric

D_METRICS: Mapping[str, Metric] = {
    "d_loss": Metric(
        "discriminator",
        "nats",
        "cross-entropy of the discriminator: its mean on the expert's steps plus its mean on the policy's steps",
        "2 ln 2 = 1.39 if it cannot distinguish them; if it stays near 0, the discriminator is too strong for the "
        "policy to learn",
        "Ho & Ermon 2016, eq. 14",
    ),
    "d_prob_expert": Metric(
        "discriminator",
        "share",
        "mean of *D*, the probability of being the expert, on the expert's steps",
        "towards 0.5",
    ),
    "d_prob_policy": Metric(
        "discriminator",
        "share",
        "mean of *D*, the probability of being the expert, on the policy's steps",
        "towards 0.5",
    ),
    "d_penalty": Metric(
        "discriminator",
        "–",
        "mean gradient penalty, before multiplication by `d_penalty_coef`; 0 with `d_penalty=none`",
        "small compared to `d_loss`",
        "Gulrajani et al. 2017, eq. 3; Kodali et al. 2017",
    ),
    "d_reward": Metric(
        "discriminator", "reward", "mean reward of the rollout's steps, from the discriminator", "steady, or rises"
    ),
}


def reward_form(default: str) -> str:
    """Declare the setting ``d_reward``, whose default differs between algorithms."""
    return param(
        default,
        "positive: −log(1−D) (survival bias); negative: log D (termination bias); unbiased: log D − log(1−D)",
        choices=("positive", "negative", "unbiased"),
    )


def absorbing_states(*, default: bool) -> bool:
    """Declare the setting ``d_absorbing``, whose default differs between algorithms."""
    return param(default, "terminal states lead to an absorbing state with a learned reward (Kostrikov et al. 2019)")


@dataclass(frozen=True, kw_only=True)
class ImitationRewardConfig:
    """Hyper-parameters of a reward that follows from demonstrations, to combine with those of a policy's training."""

    LEARNS_FROM_DEMOS: ClassVar[bool] = True

    d_ablation: str = param(
        "off",
        "ablation of the expert's steps; none: replace them by noise, which leaves only the reward's sign to learn "
        "from; shuffled: permute every feature separately, which leaves only its marginal distribution; off: no "
        "ablation",
        choices=("off", "shuffled", "none"),
    )


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(ImitationRewardConfig):
    """Hyper-parameters of a discriminator."""

    HAS_DISCRIMINATOR: ClassVar[bool] = True

    d_lr: float = param(3e-4, "learning rate of the discriminator, constant over the run", low=0)
    d_batch_size: int = param(
        128, "discriminator: steps of the policy, and equally many of the expert, per minibatch and worker", low=1
    )
    d_reward: str = reward_form("positive")
    d_absorbing: bool = absorbing_states(default=False)
    d_penalty: str = param(
        "wgan",
        "gradient penalty of the discriminator; wgan: (‖∇‖ − 1)² between expert and policy steps; one_sided: the "
        "same, only if ‖∇‖ > 1; dragan: (‖∇‖ − 1)² around expert steps; none: no penalty",
        choices=("none", "wgan", "one_sided", "dragan"),
    )
    d_penalty_coef: float = param(10.0, "coefficient of the gradient penalty", low=0)
    d_spectral_norm: bool = param(False, "spectral normalization in the discriminator")
    d_ent_coef: float = param(1e-3, "coefficient of the entropy bonus of the discriminator's predictions", low=0)
    d_label_smoothing: float = param(0.0, "label smoothing: the expert's label is 1 − this value", low=0, high=0.5)


@dataclass(frozen=True, kw_only=True)
class GAILDiscriminatorConfig(DiscriminatorConfig):
    """Hyper-parameters of a discriminator of single steps, as GAIL's."""

    d_state_only: bool = param(False, "the discriminator's input is the observation only, without the action")
    d_next_obs: bool = param(
        False, "the discriminator's input includes the next observation; with --d_state_only, it is (s, s')"
    )
