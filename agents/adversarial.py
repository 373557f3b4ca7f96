"""The base class of on-policy adversarial imitation: PPO on the reward of a discriminator."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from milozero.agents.adversarial_config import AdversarialConfig
from milozero.agents.base import AgentContext
from milozero.agents.bc_agent import BCAgent
from milozero.agents.bc_config import BCConfig
from milozero.agents.discriminator import DiscriminatorAgent
from milozero.agents.nn.discriminator import MLPHead
from milozero.agents.policy_config import EpochPolicyConfig
from milozero.agents.ppo_agent import PPOAgent
from milozero.agents.rollout import Rollout


class AdversarialAgent(DiscriminatorAgent, PPOAgent):
    """A policy trained by PPO on the reward of a discriminator, which is trained on demonstrations."""

    config: AdversarialConfig

    def __init__(
        self, config: AdversarialConfig, observation_size: int, action_space: Any, context: AgentContext
    ) -> None:
        super().__init__(config, observation_size, action_space, context)
        pretrains = config.bc_pretrain_epochs and config.d_ablation == "off"
        if context.demos and pretrains and not context.iteration:
            self._pretrain(observation_size, context)

    def make_mlp_head(self, inputs: int, rng: torch.Generator, *, batch_norm: bool = False) -> MLPHead:
        """Return a network with the discriminator's hidden layers and one output."""
        return super().make_mlp_head(inputs, rng, batch_norm=batch_norm or self.config.d_batch_norm)

    def rollout_features(self, rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """Return the features (T, N, I) of a rollout's steps, and the mask (T, N) of those to train on.

        With `d_absorbing`, the padding step after a termination becomes a step in the absorbing state.
        """
        obs = self.obs_normalizer(rollout.obs)
        features = self.features(obs[:-1], rollout.actions, obs[1:], rollout.terminated)
        absorbing = self.absorbing.find(rollout)
        features[absorbing] = self.absorbing_features()
        return features, rollout.mask | absorbing

    def update(self, rollout: Rollout, progress: float, *, terminal_value: float = 0.0) -> dict[str, float]:
        """Update the discriminator, then the policy on its reward; the environment's reward is ignored."""
        features, d_mask = self.rollout_features(rollout)
        d_metrics = dict.fromkeys(("d_loss", "d_prob_expert", "d_prob_policy", "d_penalty"), float("nan"))
        trains_discriminator = self.iterations % self.config.g_steps == 0
        if trains_discriminator:
            d_metrics = self._update_discriminator(features[d_mask], rollout.mask.size)
        rewards = self.logits_to_reward(self.scores(features, rollout.mask))
        rewards = np.where(rollout.mask, rewards, 0.0).astype(np.float32)
        rewarded = dataclasses.replace(rollout, rewards=rewards)
        metrics = super().update(rewarded, progress, terminal_value=self.terminal_value())
        if trains_discriminator and (self.config.batch_norm_all or self.config.d_batch_norm):
            self._update_batch_norm(rollout)
        self.absorbing.advance(rollout)
        mean_reward = self.comm.mean_(np.array([rewards[rollout.mask].mean()]))[0]
        return metrics | d_metrics | {"d_reward": float(mean_reward)}

    def rank_state_dict(self) -> dict[str, Any]:
        """Return this worker's state, with which episodes the last rollout left terminated."""
        ended = self.absorbing.last_terminated.tolist()
        return super().rank_state_dict() | {"ended": ended}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `rank_state_dict` returned."""
        super().load_rank_state_dict(state)
        self.absorbing.last_terminated = np.array(state["ended"], bool)

    def scores(self, features: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the logits (T, N) to convert to rewards, for features (T, N, I) and mask (T, N)."""
        return self.logits(features)

    def _update_discriminator(self, policy: np.ndarray, count: int) -> dict[str, float]:
        """Train the discriminator on features (K, I) of the policy and as many of the expert; return metrics.

        Args:
            policy: features of this worker's steps; K may differ between workers.
            count: samples per pass, the same on every worker, so that all take the same number of steps.
        """
        for _ in range(self.config.d_steps):
            self.discriminator.refresh()
            expert = self.sample_expert(count)
            batch = self.make_d_batch(expert, policy[np.resize(self.d_rng.permutation(len(policy)), count)])
            self.d_optimizer.run_epoch(batch, self.config.d_batch_size, self.d_rng)
        return self.pop_d_metrics()

    def _update_batch_norm(self, rollout: Rollout) -> None:
        """Update the discriminator's batch normalization with a rollout and as many steps of the expert (collective).

        Call this after the policy's update: the rewards must use the moments that the discriminator was trained with,
        and the new moments those of the updated observation normalizer.
        """
        features, mask = self.rollout_features(rollout)
        policy = features[mask]
        inputs = np.concatenate([self.sample_expert(len(policy)), policy])
        self.discriminator.update_batch_norm(self.to_tensor(inputs), self.comm)

    def _pretrain(self, observation_size: int, context: AgentContext) -> None:
        """Initialize the policy's mean action and the observation normalizer by behavioral cloning (collective)."""
        shared = {field.name: getattr(self.config, field.name) for field in dataclasses.fields(EpochPolicyConfig)}
        bc_config = BCConfig(**shared | {"epochs": 1, "lr_schedule": "constant"}, bc_validation=0.0)
        bc_context = AgentContext(context.comm, seed=context.seed, demos=context.demos, imitation=context.imitation)
        bc_agent = BCAgent(bc_config, observation_size, self.action_space, bc_context)
        for _ in range(self.config.bc_pretrain_epochs):
            bc_agent.train_on_demos(0.0)
        cloned = bc_agent.network.state_dict()
        cloned.pop("head.log_std", None)  # keep log_std_init: a deterministic expert would leave no exploration noise
        self.network.load_state_dict(cloned, strict=False)  # in place, without the value function
        self.actor.refresh()
        self.obs_normalizer.load_state_dict(bc_agent.obs_normalizer.state_dict())
