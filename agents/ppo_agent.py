"""Proximal policy optimization (PPO, Schulman et al. 2017).

The implementation follows "The 37 Implementation Details of PPO" (Huang et al. 2022).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from milozero.agents.base import AgentContext
from milozero.agents.learning.optimizer import PackedBatch
from milozero.agents.nn.mlp import load_if_equal_shapes
from milozero.agents.nn.policies import ActorCritic
from milozero.agents.normalizer import RewardScaler
from milozero.agents.policy import EpochPolicyAgent, PolicyAgent
from milozero.agents.ppo_config import PPOConfig, RewardModelPPOConfig
from milozero.agents.rollout import Rollout
from milozero.helpers.comm import Comm


class PPOAgent(EpochPolicyAgent):
    """A policy and a value function, trained on the rollouts of all workers."""

    Config: type[PPOConfig] = RewardModelPPOConfig
    config: PPOConfig
    network: ActorCritic

    def __init__(self, config: PPOConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        self.reward_scaler = RewardScaler(
            context.num_envs, config.gamma, config.clip_reward, config.normalize_rewards
        )
        self.reward_model = context.reward_model
        self.iterations = context.iteration  # completed

    def make_network(self, observation_size: int, action_space: Any, rng: torch.Generator) -> ActorCritic:
        """Return the policy and value networks."""
        config, actor = self.config, super().make_network(observation_size, action_space, rng)
        value = None if config.shared_value else self.make_mlp(config.v_perception_stack, observation_size, rng)
        return ActorCritic(actor.policy, actor.head, value, rng)

    def initial_lr(self, parameter: str) -> float:
        """Return the learning rate of a parameter of the network at the start of a run."""
        return self.config.v_lr if parameter.startswith("value") else self.config.p_lr

    def set_schedule(self, progress: float) -> float:
        """Set the learning rates; all but the value network's are 0 in the first `init_value_iters` iterations."""
        learning_rate = super().set_schedule(progress)
        if not self.config.init_from or self.iterations >= self.config.init_value_iters:
            return learning_rate
        self.optimizer.freeze(lambda parameter: not parameter.startswith("value"))
        return 0.0

    def update(self, rollout: Rollout, progress: float, *, terminal_value: float = 0.0) -> dict[str, float]:
        """Learn from one rollout; return metrics, averaged over the update.

        Args:
            rollout: this worker's environment steps.
            progress: completed fraction of the run, from 0 to 1.
            terminal_value: value of a terminal state, in unscaled rewards.

        Raises:
            NonFiniteError: if a loss, gradient or parameter is NaN or infinite; the message names it.
        """
        config = self.config
        if self.reward_model is not None:
            rollout = dataclasses.replace(rollout, rewards=self.reward_model.learned_reward(rollout))
            terminal_value = self.reward_model.learned_terminal_value(config.gamma)
        learning_rate = self.set_schedule(progress)
        rewards = self.reward_scaler(rollout.rewards, rollout.done, rollout.mask, self.comm)
        if terminal_value:  # r ← r + γ V(terminal), after scaling: it must neither change the scale nor be clipped
            bonus = np.float32(config.gamma * terminal_value / self.reward_scaler.std)
            rewards = rewards + rollout.terminated * bonus
        obs = self.to_tensor(self.obs_normalizer(rollout.obs))  # (T+1, N, O)
        batch = self._make_batch(rollout, obs)  # fields (T * N, ...)
        metrics: dict[str, float] = {}
        for epoch in range(config.epochs):
            if epoch == 0 or config.recompute_advantages:
                explained_var = self._add_advantages(batch, rollout, rewards, obs)
            if config.rpo_alpha:  # RPO (Rahman & Xue 2022, alg. 1): log π(a; μ + z) = log π(a − z; μ), z ~ U(−α, α)
                shift = self.rng.uniform(-config.rpo_alpha, config.rpo_alpha, rollout.actions.shape)
                batch["actions"] = self.to_tensor((rollout.actions - shift).astype(np.float32)).flatten(0, 1)
            if epoch == 0 or config.recompute_advantages or config.rpo_alpha:
                packed = PackedBatch(batch)
            self.optimizer.run_epoch(packed, config.batch_size, self.rng)
            epoch_metrics = self.optimizer.pop_metrics()
            for name, value in epoch_metrics.items():  # running mean over the epochs
                metrics[name] = metrics.get(name, 0.0) + (value - metrics.get(name, 0.0)) / (epoch + 1)
            if epoch == 0:
                metrics["explained_variance"] = explained_var
            if config.target_kl and epoch_metrics["approx_kl"] > config.target_kl:
                break
        # After the epochs, which must see observations as the policy saw them during the rollout.
        valid_obs = rollout.obs[:-1][rollout.mask]
        self.obs_normalizer.update(valid_obs, self.comm)
        # Last, so that even its first moments are those of normalized observations.
        self.network.update_batch_norm(self.to_tensor(self.obs_normalizer(valid_obs)), self.comm)
        self.actor.refresh()
        self.iterations += 1
        return metrics | {"learning_rate": learning_rate, "epochs": epoch + 1.0}

    def loss(
        self, params: dict[str, torch.Tensor], batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return PPO's loss (Schulman et al. 2017, eq. 9) and the metrics of a minibatch, fields (B, ...).

        All means are weighted, so that padding steps do not count.
        """
        config, weights = self.config, batch["weights"]
        inputs = (batch["obs"], batch["actions"])
        log_probs, entropy, values = torch.func.functional_call(self.network, params, inputs)

        # Policy loss, eq. 7: −E[min(r A, clip(r, 1 − ε, 1 + ε) A)], r = π(a|s) / π_old(a|s)
        log_ratio = log_probs - batch["old_log_probs"]
        ratio = torch.exp(log_ratio)
        clipped_ratio = torch.clamp(ratio, 1.0 - config.clip_range, 1.0 + config.clip_range)
        advantages = batch["advantages"]
        policy_loss = -(weights * torch.minimum(ratio * advantages, clipped_ratio * advantages)).mean()

        # Value loss: ½ E[(V − R)²], or ½ E[max((V − R)², (clip(V, V_old ± ε) − R)²)]
        squared_errors = (values - batch["returns"]) ** 2
        if config.clip_value_loss:
            old = batch["old_values"]
            clipped_values = old + torch.clamp(values - old, -config.clip_range, config.clip_range)
            squared_errors = torch.maximum(squared_errors, (clipped_values - batch["returns"]) ** 2)
        value_loss = 0.5 * (weights * squared_errors).mean()

        mean_entropy = (weights * entropy).mean()
        total = policy_loss + config.vf_coef * value_loss - config.ent_coef * mean_entropy
        return total, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": mean_entropy,
            "approx_kl": (weights * (ratio - 1.0 - log_ratio)).mean(),  # E[(r − 1) − log r] ≥ 0 (Schulman 2020, k3)
            "clip_fraction": (weights * ((ratio - 1.0).abs() > config.clip_range)).mean(),
        }

    @property
    def reward_source(self) -> tuple[Any, ...]:
        """What determines the rewards. A value network fits only an agent with an equal source."""
        return tuple(getattr(self.config, name, "") for name in ("reward_path", "reward_iter_num"))

    def init_from(self, source: PolicyAgent) -> dict[str, bool]:
        """Copy what fits; value network and reward normalizer only from an agent with an equal `reward_source`."""
        copied = super().init_from(source) | {"value network": False}
        if self.reward_scaler.enabled:
            copied["reward normalizer"] = False
        if (
            isinstance(source, PPOAgent)
            and self.reward_source == source.reward_source
            and self.reward_scaler.enabled == source.reward_scaler.enabled  # values are in units of scaled rewards
        ):
            copied["value network"] = load_if_equal_shapes(self.network, source.network, "value")
            if self.reward_scaler.enabled:
                self.reward_scaler.load_state_dict(source.reward_scaler.state_dict())
                copied["reward normalizer"] = True
        return copied

    def state_dict(self) -> dict[str, Any]:
        """Return the networks, Adam's moments and the normalizers."""
        return super().state_dict() | {"rewards": self.reward_scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state)
        self.reward_scaler.load_state_dict(state["rewards"])

    def rank_state_dict(self) -> dict[str, Any]:
        """Return this worker's random generator and the running returns of its environments."""
        return super().rank_state_dict() | {"returns": self.reward_scaler.returns.tolist()}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `rank_state_dict` returned."""
        super().load_rank_state_dict(state)
        self.reward_scaler.returns = np.array(state["returns"])

    def _make_batch(self, rollout: Rollout, obs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the fields (T * N, ...) of the batch except advantages, returns and old values."""
        mask = rollout.mask
        valid_share = self.comm.mean_(np.array([mask.mean()]))[0]
        batch = {
            "obs": obs[:-1].flatten(0, 1),
            "actions": self.to_tensor(rollout.actions).flatten(0, 1),
            # 0 for padding steps; the mean over the rollouts of all workers is 1
            "weights": self.to_tensor((mask / valid_share).astype(np.float32)).flatten(),
        }
        with torch.no_grad():
            batch["old_log_probs"], _ = self.network.head.log_prob(
                self.network.policy(batch["obs"]), batch["actions"]
            )
        return batch

    def _add_advantages(
        self, batch: dict[str, torch.Tensor], rollout: Rollout, rewards: np.ndarray, obs: torch.Tensor
    ) -> float:
        """Add advantages, returns and values of the current networks to `batch`; return the explained variance."""
        config, mask = self.config, rollout.mask
        with torch.no_grad():
            values = self.network.predict_values(obs).cpu().numpy()  # (T+1, N)
        advantages = gae(
            rewards, values[:-1], values[1:], rollout.terminated, rollout.done, config.gamma, config.gae_lambda
        )
        returns = advantages + values[:-1]  # TD(λ) returns: R_t = A_t + V(s_t)
        if config.normalize_advantages:
            advantages = standardize(advantages, mask, self.comm)
        for name, field in (("advantages", advantages), ("returns", returns), ("old_values", values[:-1])):
            batch[name] = self.to_tensor(field.astype(np.float32)).flatten()
        explained_var = np.array([explained_variance(values[:-1][mask], returns[mask])])
        return float(self.comm.mean_(explained_var)[0])


def standardize(values: np.ndarray, mask: np.ndarray, comm: Comm) -> np.ndarray:
    """Standardize `values` (T, N) over all workers' valid steps: (x − mean) / (std + 1e-8)."""
    valid = values[mask].astype(np.float64)
    total, squares, count = comm.sum_(np.array([valid.sum(), (valid**2).sum(), len(valid)]))
    mean = total / count
    return (values - mean) / (np.sqrt(max(squares / count - mean**2, 0.0)) + 1e-8)


def gae(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    terminated: np.ndarray,
    done: np.ndarray,
    gamma: float,
    lambda_: float,
) -> np.ndarray:
    """Return generalized advantage estimates (Schulman et al. 2016, eq. 16); all arrays are (T, N).

    A_t = δ_t + γ λ (1 − done_t) A_{t+1}, with the TD error δ_t = r_t + γ (1 − terminated_t) V(s_{t+1}) − V(s_t).

    A terminated step does not bootstrap. A truncated step does, from the value of its final observation.
    Neither lets the trace run into the next episode.

    Args:
        rewards: r_t of each step.
        values: V(s_t), of the observation before each step.
        next_values: V(s_{t+1}), of the observation after each step, which is final if the episode ended.
        terminated: the episode reached a terminal state.
        done: the episode terminated or was truncated.
        gamma: discount factor γ.
        lambda_: trace decay λ; 0 gives the TD error, 1 the Monte Carlo return minus the value.
    """
    deltas = rewards + gamma * np.where(terminated, 0.0, next_values) - values  # TD error δ_t
    decay = gamma * lambda_ * ~done
    advantages = np.empty_like(deltas)
    trace = np.zeros(deltas.shape[1:], deltas.dtype)
    for t in reversed(range(len(deltas))):
        trace = deltas[t] + decay[t] * trace  # A_t = δ_t + γ λ (1 − done_t) A_{t+1}
        advantages[t] = trace
    return advantages


def explained_variance(values: np.ndarray, returns: np.ndarray) -> float:
    """Return 1 − Var(returns − values) / Var(returns), NaN if all returns are equal.

    1 is a perfect prediction; 0 or less is no better than predicting the mean return.
    """
    variance = returns.var()
    return float(1.0 - (returns - values).var() / variance) if variance > 0 else float("nan")
