"""Proximal policy optimization (Schulman et al. 2017), whole.

Details follow what was found to matter in "The 37 Implementation Details of PPO" (Huang et al. 2022).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from milozero.agents.advantages import explained_variance, gae
from milozero.agents.base import AgentContext
from milozero.agents.learning.batches import PackedBatch
from milozero.agents.learning.optimizer import Optimizer
from milozero.agents.nn.actor import Actor
from milozero.agents.nn.distributions import make_head
from milozero.agents.nn.policies import ActorCritic
from milozero.agents.normalizer import ObservationNormalizer, RewardScaler
from milozero.agents.policy import PolicyAgent, make_mlp
from milozero.agents.ppo_config import PPOConfig, RewardedPPOConfig
from milozero.agents.rollout import Rollout
from milozero.helpers.comm import Comm
from milozero.helpers.seeding import Purpose, generator, integer


class PPOAgent(PolicyAgent):
    """A policy and a value function that learn from the rollouts of all workers."""

    Config: type[PPOConfig] = RewardedPPOConfig
    finished = ""
    network: ActorCritic

    def __init__(self, config: PPOConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        config.check_action_space(action_space)
        self.config = config
        self.comm = context.comm
        self.device = torch.device(context.device)
        rng = torch.Generator().manual_seed(integer(context.seed, Purpose.PARAMETERS))
        self.network = make_actor_critic(config, observation_size, action_space, rng).to(self.device)
        self.optimizer = Optimizer(
            self.network,
            self.loss,
            lambda name: config.v_lr if name.startswith("value") else config.p_lr,
            clip_norm=config.clip_norm,
            comm=context.comm,
            compile=context.compile,
        )
        self.actor = Actor(self.network)  # after the optimizer, which gives the parameters their place
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
                packed = PackedBatch(batch)
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
) -> ActorCritic:
    """Return the networks that `config` describes."""
    policy = make_mlp(config, config.p_perception_stack, observation_size, rng)
    head = make_head(action_space, policy.outputs, config.log_std_init, rng)
    stack = config.v_perception_stack
    value = None if config.shared_value else make_mlp(config, stack, observation_size, rng)
    return ActorCritic(policy, head, value, rng)
