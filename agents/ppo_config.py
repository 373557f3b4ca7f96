"""Hyper-parameters and metrics of PPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from milozero.agents.policy_config import PolicyConfig
from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import param, usable_path
from milozero.helpers.errors import UserError
from milozero.tracking.metrics import Metric

PPO_METRICS = {  # means over the minibatches and epochs of the update, but for the last three
    "policy_loss": Metric(
        "update",
        "–",
        "−mean min(*rA*, clip(*r*, 1 ± `clip_range`) *A*): *r* new over old probability of the action, *A* advantage",
        "a little below 0 (−0.03 to −0.005), without a trend; says nothing about progress",
        "Schulman et al. 2017, eq. 7",
    ),
    "value_loss": Metric(
        "update",
        "scaled reward²",
        "½ mean (value − return)², of rewards as `normalize_rewards` scales them",
        "falls at first, then follows the returns; worry when it grows by orders of magnitude",
        "Schulman et al. 2017, eq. 9 (its L^VF, halved)",
    ),
    "entropy": Metric(
        "update",
        "nats",
        "mean entropy of the action distribution, summed over dimensions; of continuous actions below 0 when narrow",
        "falls slowly; worry when it collapses early with poor returns (raise `ent_coef`), or rises long",
        "Schulman et al. 2017, eq. 9 (its S)",
    ),
    "approx_kl": Metric(
        "update",
        "nats",
        "mean (*r* − 1 − ln *r*), an estimate of KL(old ‖ new policy), never negative; with `rpo_alpha`, what that "
        "moves counts as well, here and in `clip_fraction`",
        "about 0.01 (0.005 to 0.015); above 0.05 for long the steps are too large: lower `p_lr`, fewer `epochs`, or "
        "a `target_kl`",
        'Schulman 2020, "Approximating KL divergence", k3',
    ),
    "clip_fraction": Metric(
        "update",
        "share",
        "of the samples, those with *r* outside 1 ± `clip_range`: the others are free to move on",
        "about 0.1 (0.06 to 0.2); 0 all the time: the steps are tiny; above 0.3: they are too large",
        "Huang et al. 2022, no. 12",
    ),
    "grad_norm": Metric(
        "update",
        "–",
        "Euclidean norm of the gradient averaged over the workers, before `clip_norm` cuts it",
        "steady within a factor of a few (0.7 to 2); a jump by orders of magnitude comes before a run breaks",
        "Huang et al. 2022, no. 11",
    ),
    "explained_variance": Metric(
        "update",
        "share",
        "1 − Var(return − value) / Var(return), of the values before the update; empty where all returns are equal",
        "soon towards 1 (above 0.9); 0 or less for long: the value function has learned nothing",
        "Huang et al. 2022, no. 12",
    ),
    "learning_rate": Metric(
        "update",
        "–",
        "the policy's, of this update: `p_lr` as `lr_schedule` has it",
        "a line to 0 at the end of the run, or constant",
        "Huang et al. 2022, no. 4",
    ),
    "epochs": Metric(
        "update",
        "epochs",
        "passes over the rollout that the update made",
        "as `--epochs`; fewer where `target_kl` ended it: when always 1, the steps are too large",
    ),
}


@dataclass(frozen=True, kw_only=True)
class PPOConfig(PolicyConfig):
    """Hyper-parameters of PPO."""

    METRICS: ClassVar[Mapping[str, Metric]] = PPO_METRICS

    v_perception_stack: str = param("mlp_64", "hidden layers of the value function", check=parse_hidden_sizes)
    shared_value: bool = param(False, "value function on the policy's hidden layers, not on its own")
    v_lr: float = param(3e-4, "learning rate of the value function", low=0)

    gamma: float = param(0.99, "discount factor", low=0, high=1)
    gae_lambda: float = param(0.95, "trace decay of the advantage estimate", low=0, high=1)
    clip_range: float = param(0.2, "largest relative change of an action's probability", above=0)
    clip_value_loss: bool = param(False, "limit the change of values by the same clip range")
    ent_coef: float = param(0.0, "weight of the entropy bonus", low=0)
    vf_coef: float = param(0.5, "weight of the value loss", low=0)
    recompute_advantages: bool = param(False, "new values and advantages before each epoch")
    normalize_advantages: bool = param(True, "advantages to mean 0, deviation 1 over all workers")
    rpo_alpha: float = param(
        0.0,
        "the update moves the means of continuous actions by up to this, in their units, uniformly; 0 for not",
        low=0,
    )
    target_kl: float = param(0.0, "end an update where the KL divergence exceeds this; 0 for never", low=0)
    normalize_rewards: bool = param(True, "rewards divided by the deviation of the discounted return")
    clip_reward: float = param(10.0, "limit of normalized rewards", above=0)

    def check_action_space(self, action_space: Any) -> None:
        """Check that these hyper-parameters fit an action space.

        Raises:
            UserError: if RPO is on and actions are discrete.
        """
        if self.rpo_alpha and not action_space.shape:
            raise UserError(f"--rpo_alpha={self.rpo_alpha}: discrete actions have no mean to perturb")


@dataclass(frozen=True, kw_only=True)
class RewardedPPOConfig(PPOConfig):
    """Hyper-parameters of PPO, and where its rewards come from."""

    reward_path: str = param(
        "",
        "learn from the reward that a run of --algo=airl has learned, not from the environment's: its folder of "
        "checkpoints",
        check=usable_path,
    )
    reward_iter_num: str = param("last", "which of them: an iteration, best or last")
