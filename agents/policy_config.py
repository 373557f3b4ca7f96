"""Hyper-parameters of every algorithm that trains a policy network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import param
from milozero.helpers.errors import UserError
from milozero.tracking.metrics import Metric

GRAD_NORM = Metric(
    "update",
    "–",
    "Euclidean norm of the gradient, averaged over the workers, before clipping to `clip_norm`",
    "steady within a small factor (0.7 to 2); a jump by orders of magnitude precedes divergence",
    "Huang et al. 2022, no. 11",
)
LEARNING_RATE = Metric(
    "update",
    "–",
    "the policy's learning rate in this update: `p_lr` after `lr_schedule`",
    "falls linearly to 0 at the end of the run, or stays constant",
    "Huang et al. 2022, no. 4",
)


# Settings that must be equal for one policy's parameters to fit another and mean the same.
POLICY_SETTINGS = (
    *("p_perception_stack", "activation", "layer_norm", "batch_norm_all"),
    *("normalize_observations", "clip_obs"),
)


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Hyper-parameters of a policy network and its training."""

    METRICS: ClassVar[Mapping[str, Metric]] = {}  # what `Agent.update` returns
    POLICY_KIND: ClassVar[str] = ""  # see `policy_kind`
    LEARNS_FROM_ROLLOUTS: ClassVar[bool] = True  # minibatches are no larger than a rollout
    LEARNS_FROM_DEMOS: ClassVar[bool] = False  # requires --expert_path; otherwise it only sets the target return
    HAS_DISCRIMINATOR: ClassVar[bool] = False  # --d_perception_stack applies

    p_perception_stack: str = param(
        "mlp_64",
        "hidden layers of the policy: mlp_64 is two layers of 64, mlp_256_128 one of 256 and one of 128",
        check=parse_hidden_sizes,
    )
    activation: str = param("tanh", "activation function of the hidden layers", choices=("tanh", "relu", "elu"))
    layer_norm: bool = param(False, "layer normalization in all networks")

    init_from: str = param(
        "",
        "checkpoint folder of another run with the same kind of policy; start with its networks and normalizers that "
        "fit",
        is_path=True,
    )
    init_iter_num: str = param("best", "which checkpoint of --init_from: an iteration, best or last")
    init_freeze_normalizer: bool = param(
        True,
        "freeze the observation normalizer of --init_from; otherwise, new observations update it, which changes what "
        "the policy does",
    )

    p_lr: float = param(3e-4, "learning rate of the policy, and of the shared layers with --shared_value", low=0)
    lr_schedule: str = param(
        "linear",
        "linear: anneal p_lr and v_lr to 0 over the run; constant: keep them",
        choices=("linear", "constant"),
    )
    clip_norm: float = param(0.5, "maximum norm for gradient clipping; 0 disables it", low=0)
    batch_size: int = param(64, "steps per minibatch and worker; the gradient averages over all workers", low=1)

    normalize_observations: bool = param(
        True, "normalize observations to mean 0 and standard deviation 1 with running statistics"
    )
    clip_obs: float = param(10.0, "clip normalized observations to ± this value", above=0)

    def update_interval(self, rollout_len: int) -> int:
        """Return the steps of a worker between two calls of `Agent.update`, which divide `rollout_len`."""
        return rollout_len

    def optimizer_steps(self, train_steps: int, workers: int) -> float:
        """Return the number of optimizer steps per iteration, on `train_steps` steps of each of the workers."""
        raise NotImplementedError

    @property
    def learns_from_demos(self) -> bool:
        """Whether training needs demonstrations."""
        return self.LEARNS_FROM_DEMOS

    @property
    def policy_kind(self) -> str:
        """How actions follow from the last layer; one policy's parameters fit another of the same kind."""
        return self.POLICY_KIND

    @classmethod
    def learns_offline(cls) -> bool:
        """Return whether the policy learns from demonstrations alone; rollouts then only measure its return."""
        return cls.LEARNS_FROM_DEMOS and not cls.LEARNS_FROM_ROLLOUTS

    def check_action_space(self, action_space: Any) -> None:
        """Check that these hyper-parameters fit an action space.

        Raises:
            UserError: if they do not.
        """


@dataclass(frozen=True, kw_only=True)
class EpochPolicyConfig(PolicyConfig):
    """Hyper-parameters of a Gaussian or categorical policy that is trained in epochs over a batch of steps."""

    POLICY_KIND: ClassVar[str] = "a Gaussian or categorical policy"

    batch_norm_all: bool = param(
        False, "batch normalization in all networks, with moments of whole rollouts of all workers"
    )
    log_std_init: float = param(
        0.0,
        "initial log standard deviation of continuous actions, in the policy's units ([−1, 1] spans the bounds)",
        low=-20,
        high=2,
    )
    init_log_std: float | None = param(
        None,
        "initial log standard deviation of continuous actions with --init_from (default: that of the checkpoint)",
        low=-20,
        high=2,
    )
    epochs: int = param(10, "passes over the training data per iteration", low=1)

    def optimizer_steps(self, train_steps: int, workers: int) -> float:
        """Return the number of optimizer steps per iteration, on `train_steps` steps of each of the workers."""
        return self.epochs * (train_steps // self.batch_size)

    def check_action_space(self, action_space: Any) -> None:
        """Check that these hyper-parameters fit an action space.

        Raises:
            UserError: if they do not.
        """
        super().check_action_space(action_space)
        if self.init_log_std is not None and not action_space.shape:
            raise UserError(f"--init_log_std={self.init_log_std} needs continuous actions")
