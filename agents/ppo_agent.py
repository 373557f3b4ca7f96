"""Proximal policy optimization (Schulman et al. 2017), whole.

Details follow what was found to matter in "The 37 Implementation Details of PPO" (Huang et al. 2022).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from milozero.agents.advantages import explained_variance, gae
from milozero.agents.base import AgentContext
from milozero.agents.normalizer import ObservationNormalizer, RewardScaler
from milozero.agents.policy import PolicyAgent, PolicyConfig, make_mlp
from milozero.agents.rollout import Rollout
from milozero.helpers.comm import Comm
from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import param, usable_path
from milozero.helpers.errors import UserError
from milozero.helpers.lazy import lazy_import
from milozero.helpers.seeding import Purpose, generator, integer
from milozero.tracking.metrics import Metric

if TYPE_CHECKING:
    import torch

    from milozero.agents.learning import optimizer as optimizers
    from milozero.agents.nn import networks
else:  # torch takes more than a second to import, and `main.py -h` reads this file
    torch = lazy_import("torch")
    networks = lazy_import("milozero.agents.nn.networks")
    optimizers = lazy_import("milozero.agents.learning.optimizer")


@dataclass(frozen=True, kw_only=True)
class PPOConfig(PolicyConfig):
    """Hyper-parameters of PPO."""

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


class PPOAgent(PolicyAgent):
    """A policy and a value function that learn from the rollouts of all workers."""

    Config: type[PPOConfig] = RewardedPPOConfig
    METRICS = PPO_METRICS
    LEARNS_FROM_DEMOS = False
    DISCRIMINATES = False
    finished = ""
    network: networks.ActorCritic

    @staticmethod
    def check_actions(config: PPOConfig, action_space: Any) -> None:
        """Refuse to move means that there are not."""
        if config.rpo_alpha and not action_space.shape:
            raise UserError(f"--rpo_alpha={config.rpo_alpha}: a finite set of actions has no mean to move")

    def __init__(self, config: PPOConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        self.check_actions(config, action_space)
        self.config = config
        self.comm = context.comm
        self.device = torch.device(context.device)
        rng = torch.Generator().manual_seed(integer(context.seed, Purpose.PARAMETERS))
        self.network = make_actor_critic(config, observation_size, action_space, rng).to(self.device)
        self.optimizer = optimizers.Optimizer(
            self.network,
            self.loss,
            lambda name: config.v_lr if name.startswith("value") else config.p_lr,
            clip_norm=config.clip_norm,
            comm=context.comm,
            compile=context.compile,
        )
        self.actor = networks.Actor(self.network)  # after the optimizer, which gives the parameters their place
        self.observations = ObservationNormalizer(observation_size, config.clip_obs, config.normalize_observations)
        self.rewards = RewardScaler(context.num_envs, config.gamma, config.clip_reward, config.normalize_rewards)
        self.rng = generator(context.seed, Purpose.SHUFFLE, context.comm.rank, context.iteration)
        self.teacher = context.reward

    def update(self, rollout: Rollout, progress: float, *, terminal_value: float = 0.0) -> dict[str, float]:
        """Learn from one rollout. Metrics are means over the update.

        Args:
            rollout: what happened.
            progress: from 0 to 1 over the run.
            terminal_value: rewards to come, discounted, after an episode that ended by its own rules.

        Raises:
            NonFiniteError: where a loss, gradient or parameter is no longer finite, naming it.
        """
        config = self.config
        if self.teacher is not None:
            rollout = dataclasses.replace(rollout, rewards=self.teacher.learned_reward(rollout))
        schedule = 1.0 - progress if config.lr_schedule == "linear" else 1.0
        self.optimizer.set_schedule(schedule)
        rewards = self.rewards(rollout.rewards, rollout.done, rollout.mask, self.comm)
        if terminal_value:  # beside the rewards' own scale, which it would stretch, and their limit
            rewards = rewards + rollout.terminated * np.float32(config.gamma * terminal_value / self.rewards.std)
        obs = self.tensor(self.observations(rollout.obs))  # (T+1, N, O)
        batch = self._batch(rollout, obs)  # fields (T * N, ...)
        metrics: dict[str, float] = {}
        for epoch in range(config.epochs):
            if epoch == 0 or config.recompute_advantages:
                explained = self._add_advantages(batch, rollout, rewards, obs)
            if config.rpo_alpha:  # a mean moved up is an action moved down (Rahman & Xue 2022, alg. 1)
                moved = self.rng.uniform(-config.rpo_alpha, config.rpo_alpha, rollout.actions.shape)
                batch["actions"] = self.tensor((rollout.actions - moved).astype(np.float32)).flatten(0, 1)
            if epoch == 0 or config.recompute_advantages or config.rpo_alpha:
                packed = optimizers.PackedBatch(batch)
            self.optimizer.run_epoch(packed, config.batch_size, self.rng)
            epoch_metrics = self.optimizer.pop_metrics()
            for name, value in epoch_metrics.items():
                metrics[name] = metrics.get(name, 0.0) + (value - metrics.get(name, 0.0)) / (epoch + 1)
            if epoch == 0:
                metrics["explained_variance"] = explained
            if config.target_kl and epoch_metrics["approx_kl"] > config.target_kl:
                break
        # Only now: the policy that collected this rollout saw the old moments, and the update must too.
        self.observations.update(rollout.obs[:-1][rollout.mask], self.comm)
        self.network.update_batch_norm(obs[:-1][self.tensor(rollout.mask)], self.comm)
        self.actor.refresh()
        return metrics | {"learning_rate": config.p_lr * schedule, "epochs": epoch + 1.0}

    def loss(
        self,
        params: dict[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the clipped surrogate loss (Schulman et al. 2017, eq. 9) of a minibatch, fields (B, ...).

        Every mean is weighted: dead rows weigh nothing.
        """
        config, weights = self.config, batch["weights"]
        call = (batch["obs"], batch["actions"])
        log_probs, entropy, values = torch.func.functional_call(self.network, params, call)
        log_ratio = log_probs - batch["old_log_probs"]
        ratio = torch.exp(log_ratio)
        clipped = torch.clamp(ratio, 1.0 - config.clip_range, 1.0 + config.clip_range)
        advantages = batch["advantages"]
        policy_loss = -(weights * torch.minimum(ratio * advantages, clipped * advantages)).mean()

        errors = (values - batch["returns"]) ** 2
        if config.clip_value_loss:
            old = batch["old_values"]
            near = old + torch.clamp(values - old, -config.clip_range, config.clip_range)
            errors = torch.maximum(errors, (near - batch["returns"]) ** 2)
        value_loss = 0.5 * (weights * errors).mean()

        bonus = (weights * entropy).mean()
        total = policy_loss + config.vf_coef * value_loss - config.ent_coef * bonus
        return total, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": bonus,
            "approx_kl": (weights * (ratio - 1.0 - log_ratio)).mean(),  # Schulman's estimator, never negative
            "clip_fraction": (weights * ((ratio - 1.0).abs() > config.clip_range)).mean(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return networks, Adam's moments and normalizers."""
        return super().state_dict() | {"rewards": self.rewards.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        super().load_state_dict(state)
        self.rewards.load_state_dict(state["rewards"])

    def rank_state_dict(self) -> dict[str, Any]:
        """Return this worker's shuffling, and the discounted returns of its environments' episodes so far."""
        return {"shuffle": self.rng.bit_generator.state, "returns": self.rewards.returns.tolist()}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a worker's state."""
        self.rng.bit_generator.state = state["shuffle"]
        self.rewards.returns = np.array(state["returns"])

    def _batch(self, rollout: Rollout, obs: torch.Tensor) -> dict[str, torch.Tensor]:
        mask = rollout.mask
        share = self.comm.mean_(np.array([mask.mean()]))[0]
        batch = {
            "obs": obs[:-1].flatten(0, 1),
            "actions": self.tensor(rollout.actions).flatten(0, 1),
            # 0 on dead rows, and a mean of 1 over the rollouts of all workers
            "weights": self.tensor((mask / share).astype(np.float32)).flatten(),
        }
        with torch.no_grad():
            batch["old_log_probs"], _ = self.network.head.log_prob(
                self.network.policy(batch["obs"]), batch["actions"]
            )
        return batch

    def _add_advantages(
        self,
        batch: dict[str, torch.Tensor],
        rollout: Rollout,
        rewards: np.ndarray,
        obs: torch.Tensor,
    ) -> float:
        """Put values, returns and advantages by the present networks into `batch`; return the explained variance."""
        config, mask = self.config, rollout.mask
        with torch.no_grad():
            values = self.network.values(obs).cpu().numpy()  # (T+1, N)
        ends = (rollout.terminated, rollout.done)
        advantages = gae(rewards, values[:-1], values[1:], *ends, config.gamma, config.gae_lambda)
        returns = advantages + values[:-1]
        if config.normalize_advantages:
            advantages = standardize(advantages, mask, self.comm)
        for name, field in (("advantages", advantages), ("returns", returns), ("old_values", values[:-1])):
            batch[name] = self.tensor(field.astype(np.float32)).flatten()
        explained = np.array([explained_variance(values[:-1][mask], returns[mask])])
        return float(self.comm.mean_(explained)[0])


def standardize(values: np.ndarray, mask: np.ndarray, comm: Comm) -> np.ndarray:
    """Return `values` (T, N) with mean 0 and deviation 1 over the valid rows of all workers."""
    kept = values[mask].astype(np.float64)
    total, squares, count = comm.sum_(np.array([kept.sum(), (kept**2).sum(), len(kept)]))
    mean = total / count
    return (values - mean) / (np.sqrt(max(squares / count - mean**2, 0.0)) + 1e-8)


def make_actor_critic(
    config: PPOConfig,
    observation_size: int,
    action_space: Any,
    rng: torch.Generator,
) -> networks.ActorCritic:
    """Return the networks that `config` describes."""
    policy = make_mlp(config, config.p_perception_stack, observation_size, rng)
    head = networks.make_head(action_space, policy.outputs, config.log_std_init, rng)
    stack = config.v_perception_stack
    value = None if config.shared_value else make_mlp(config, stack, observation_size, rng)
    return networks.ActorCritic(policy, head, value, rng)
