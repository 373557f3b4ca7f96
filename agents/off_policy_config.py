"""Hyper-parameters and metrics of algorithms that learn from a replay buffer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from milozero.agents.policy_config import LEARNING_RATE, PolicyConfig
from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import param
from milozero.helpers.errors import UserError
from milozero.tracking.metrics import Metric

Q_METRICS: Mapping[str, Metric] = {  # empty until the first update
    "q_loss": Metric(
        "update",
        "return²",
        "½ mean (Q − target)², summed over both critics",
        "follows the returns; growth by orders of magnitude indicates divergence",
    ),
    "td_error": Metric(
        "update", "return", "mean absolute error Q − target of the first critic", "a few percent of `q_mean`"
    ),
    "q_mean": Metric(
        "update",
        "return",
        "mean value of the stored actions, by the first critic",
        "follows the discounted return; far above it, values are overestimated",
        "Fujimoto et al. 2018, fig. 1",
    ),
    "policy_loss": Metric(
        "update",
        "return",
        "mean −Q of the policy's actions; SAC adds α log π",
        "falls as the values rise; not a measure of progress",
    ),
}
BUFFER_METRICS: Mapping[str, Metric] = {
    "updates_per_second": Metric(
        "update", "1/s", "updates per second, without the time of environment steps; on rank 0", "steady"
    ),
    "buffer_size": Metric(
        "update",
        "steps",
        "steps in the replay buffers of all workers, a mean over this iteration",
        "rises to about `buffer_size`",
    ),
    "grad_norm": Metric(
        "update",
        "–",
        "Euclidean norm of the gradient of all networks together, averaged over the workers, before clipping to "
        "`clip_norm`",
        "follows `q_loss`; a jump by orders of magnitude precedes divergence",
    ),
    "learning_rate": LEARNING_RATE,
}


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(PolicyConfig):
    """Hyper-parameters of an algorithm with two critics that learns from a replay buffer."""

    LEARNS_FROM_ROLLOUTS = False

    p_perception_stack: str = param(
        "mlp_256",
        "hidden layers of the policy: mlp_256 is two layers of 256, mlp_400_300 one of 400 and one of 300",
        check=parse_hidden_sizes,
    )
    q_perception_stack: str = param("mlp_256", "hidden layers of each critic", check=parse_hidden_sizes)
    activation: str = param("relu", "activation function of the hidden layers", choices=("tanh", "relu", "elu"))
    q_layer_norm: bool = param(False, "layer normalization in the critics; --layer_norm adds it to all networks")
    p_lr: float = param(3e-4, "learning rate of the policy", low=0)
    q_lr: float = param(3e-4, "learning rate of the critics", low=0)
    lr_schedule: str = param(
        "constant",
        "linear: anneal all learning rates to 0 over the run; constant: keep them",
        choices=("linear", "constant"),
    )
    clip_norm: float = param(
        0.0, "maximum norm of the gradient of all networks together, for clipping; 0 disables it", low=0
    )
    batch_size: int = param(
        256, "steps per update and worker; the gradient averages over all workers", low=1, high=65536
    )

    buffer_size: int = param(
        1_000_000, "steps that the replay buffers of all workers hold together", low=1, high=10**9
    )
    save_buffer: bool = param(
        True,
        "save the replay buffer with checkpoints; otherwise, a resumed run starts with an empty one and is not "
        "bit-exact",
        mutable_on_resume=True,
    )
    learning_starts: int = param(
        10_000,
        "steps of all workers before the first update; their actions are uniformly random, or those of the policy "
        "with --init_from",
        low=0,
    )
    train_freq: int = param(
        64, "steps of a worker between rounds of updates, a multiple of --num_envs that divides --rollout_len", low=1
    )
    updates_per_step: float = param(
        1.0,
        "gradient updates per environment step (the replay ratio), counted over all environments of all workers",
        above=0,
        high=100,
    )
    policy_delay: int = param(1, "updates of the critics per update of the policy", low=1, high=8)
    gamma: float = param(0.99, "discount factor γ", low=0, high=1)
    n_step: int = param(1, "length of n-step returns, which the critics learn from", low=1, high=100)
    expert_mix: float = param(
        0.0,
        "share of each batch that is drawn from the demonstrations of --expert_path; SAC and TD3 learn from their "
        "rewards, too",
        low=0,
        high=0.9,
    )
    tau: float = param(
        0.005, "soft-update coefficient τ of the target networks: θ' ← θ' + τ (θ − θ')", above=0, high=1
    )

    @property
    def learns_from_demos(self) -> bool:
        """Whether training needs demonstrations: for its reward, or as a part of each batch."""
        return self.LEARNS_FROM_DEMOS or self.expert_mix > 0

    @classmethod
    def learns_offline(cls) -> bool:
        """Return False: the policy's own steps are always part of what it learns from."""
        return False

    def update_interval(self, rollout_len: int) -> int:
        """Return the steps of a worker between two calls of `Agent.update`."""
        return self.train_freq

    def optimizer_steps(self, train_steps: int, workers: int) -> float:
        """Return the number of optimizer steps per iteration, on `train_steps` steps of each of the workers."""
        return train_steps * workers * self.updates_per_step

    def check_action_space(self, action_space: Any) -> None:
        """Check that these hyper-parameters fit an action space.

        Raises:
            UserError: if actions are discrete or unbounded.
        """
        super().check_action_space(action_space)
        if not action_space.shape:
            raise UserError(
                "off-policy algorithms need continuous actions; for discrete ones, use --algo=ppo, or gail to imitate"
            )
        if not (action_space.low == -1).all() or not (action_space.high == 1).all():
            raise UserError(
                "off-policy algorithms need actions with finite bounds; otherwise, use --algo=ppo, or gail to imitate"
            )
