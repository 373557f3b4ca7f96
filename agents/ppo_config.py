"""Hyper-parameters and metrics of PPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from milozero.agents.policy_config import GRAD_NORM, LEARNING_RATE, EpochPolicyConfig
from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import param
from milozero.helpers.errors import UserError
from milozero.tracking.metrics import Metric

PPO_METRICS = {  # all but the last three are means over the minibatches and epochs of the update
    "policy_loss": Metric(
        "update",
        "–",
        "−mean min(*rA*, clip(*r*, 1 ± `clip_range`) *A*), with *r* the probability ratio of the new and the old "
        "policy and *A* the advantage",
        "slightly below 0 (−0.03 to −0.005), without a trend; not a measure of progress",
        "Schulman et al. 2017, eq. 7",
    ),
    "value_loss": Metric(
        "update",
        "scaled reward²",
        "½ mean (value − return)², on rewards as scaled by `normalize_rewards`",
        "falls at first, then follows the returns; growth by orders of magnitude indicates divergence",
        "Schulman et al. 2017, eq. 9 (its L^VF, halved)",
    ),
    "entropy": Metric(
        "update",
        "nats",
        "mean entropy of the action distribution, summed over dimensions; negative for narrow Gaussians",
        "falls slowly; if it collapses early with poor returns, raise `ent_coef`; if it keeps rising, lower it",
        "Schulman et al. 2017, eq. 9 (its S)",
    ),
    "approx_kl": Metric(
        "update",
        "nats",
        "mean (*r* − 1 − ln *r*), a non-negative estimate of KL(old ‖ new policy); like `clip_fraction`, it includes "
        "the perturbation by `rpo_alpha`",
        "about 0.01 (0.005 to 0.015); if it stays above 0.05, the steps are too large: lower `p_lr`, use fewer "
        "`epochs`, or set `target_kl`",
        'Schulman 2020, "Approximating KL divergence", k3',
    ),
    "clip_fraction": Metric(
        "update",
        "share",
        "fraction of samples with *r* outside 1 ± `clip_range`",
        "about 0.1 (0.06 to 0.2); always 0: the steps are tiny; above 0.3: the steps are too large",
        "Huang et al. 2022, no. 12",
    ),
    "grad_norm": GRAD_NORM,
    "explained_variance": Metric(
        "update",
        "share",
        "1 − Var(return − value) / Var(return), with the values before the update; empty if all returns are equal",
        "approaches 1 early (above 0.9); if it stays at 0 or below, the value function has learned nothing",
        "Huang et al. 2022, no. 12",
    ),
    "learning_rate": LEARNING_RATE,
    "epochs": Metric(
        "update",
        "epochs",
        "passes over the rollout in this update",
        "equals `--epochs`, or less if `target_kl` stopped the update; if always 1, the steps are too large",
    ),
}


@dataclass(frozen=True, kw_only=True)
class PPOConfig(EpochPolicyConfig):
    """Hyper-parameters of PPO."""

    METRICS: ClassVar[Mapping[str, Metric]] = PPO_METRICS

    v_perception_stack: str = param("mlp_64", "hidden layers of the value function", check=parse_hidden_sizes)
    shared_value: bool = param(False, "the value function shares the policy's hidden layers")
    v_lr: float = param(3e-4, "learning rate of the value function", low=0)

    init_value_iters: int = param(
        0,
        "with --init_from: iterations that train only the value network, e.g. because it starts from scratch",
        low=0,
    )

    gamma: float = param(0.99, "discount factor γ", low=0, high=1)
    gae_lambda: float = param(
        0.95, "λ of generalized advantage estimation; 0: TD error, 1: Monte Carlo return minus value", low=0, high=1
    )
    clip_range: float = param(0.2, "clip the probability ratio of new and old policy to 1 ± this value", above=0)
    clip_value_loss: bool = param(False, "clip the change of the values to ± clip_range")
    ent_coef: float = param(0.0, "coefficient of the entropy bonus", low=0)
    vf_coef: float = param(0.5, "coefficient of the value loss", low=0)
    recompute_advantages: bool = param(False, "recompute values and advantages before every epoch")
    normalize_advantages: bool = param(
        True, "normalize advantages to mean 0 and standard deviation 1 over the rollouts of all workers"
    )
    rpo_alpha: float = param(
        0.0,
        "RPO: add U(−α, α) to the mean of continuous actions during updates, in the policy's units; 0 disables it",
        low=0,
    )
    target_kl: float = param(
        0.0, "stop an update after the epoch whose approx_kl exceeds this value; 0 disables it", low=0
    )
    normalize_rewards: bool = param(True, "divide rewards by the running standard deviation of the discounted return")
    clip_reward: float = param(10.0, "clip normalized rewards to ± this value", above=0)

    def check_action_space(self, action_space: Any) -> None:
        """Check that these hyper-parameters fit an action space.

        Raises:
            UserError: if RPO is enabled and actions are discrete.
        """
        super().check_action_space(action_space)
        if self.rpo_alpha and not action_space.shape:
            raise UserError(f"--rpo_alpha={self.rpo_alpha} needs continuous actions; discrete ones have no mean")


@dataclass(frozen=True, kw_only=True)
class RewardModelPPOConfig(PPOConfig):
    """Hyper-parameters of PPO on the environment's reward or on a learned one."""

    reward_path: str = param(
        "",
        "checkpoint folder of a run of --algo=airl, whose learned reward replaces the environment's reward",
        is_path=True,
    )
    reward_iter_num: str = param("last", "which checkpoint of --reward_path: an iteration, best or last")
