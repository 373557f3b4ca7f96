"""Generative adversarial imitation learning (Ho & Ermon 2016): PPO whose reward is a discriminator's.

The discriminator tells the expert's steps from the policy's; the policy is rewarded for steps that look like the
expert's. The environment's own reward is measured, and never learned from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from milozero.agents.adversarial import AdversarialAgent
from milozero.agents.base import AgentContext
from milozero.agents.gail_config import GAILConfig
from milozero.agents.rollout import Rollout
from milozero.helpers.errors import UserError


class GAILAgent(AdversarialAgent):
    """A policy that learns by PPO to look like the expert to a discriminator."""

    Config = GAILConfig
    config: GAILConfig

    def __init__(self, config: GAILConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        self.ended = np.zeros(context.num_envs, bool)  # by its own rules, with the step before this rollout
        if config.d_absorbing and config.gamma == 1.0:
            raise UserError("--d_absorbing needs a --gamma below 1: rewards for ever must add up to something")
        if context.demos:
            ends, steps = sum(e.terminated for e in context.demos), sum(map(len, context.demos))
            self.expert_ends = ends / (steps + ends)  # share of the state that absorbs, once an episode

    def make_discriminator(self, observation_size: int, action_size: int, rng: torch.Generator) -> torch.nn.Module:
        """Return hidden layers and a logit on top of them."""
        actions = 0 if self.config.d_state_only else action_size
        self.penalty_dims = observation_size + actions + int(self.config.d_absorbing)
        return self.layers(self.penalty_dims, rng)

    def features(self, obs: np.ndarray, actions: np.ndarray, next_obs: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return what the discriminator sees (..., I) of steps: observation, action, not the absorbing state."""
        parts = [obs]
        if not self.config.d_state_only:
            parts.append(self.encode_actions(actions))
        if self.config.d_absorbing:
            parts.append(np.zeros((*obs.shape[:-1], 1)))
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def rollout_features(self, rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs (T, N, I) of a rollout's steps, and which of them there are (T, N).

        The dead row after an end is where the state that absorbs is seen.
        """
        features, mask = super().rollout_features(rollout)
        if self.config.d_absorbing:
            after = np.concatenate([self.ended[None], rollout.terminated[:-1]]) & ~rollout.mask
            features[after], mask = self._absorbed(), mask | after
            self.ended = rollout.terminated[-1].copy()
        return features, mask

    def sample_expert(self, count: int) -> np.ndarray:
        """Return what the discriminator sees (count, I) of the expert, which absorbs as often as its episodes end."""
        chosen = super().sample_expert(count)
        if self.config.d_absorbing:  # noise as well, or an end alone would tell it from the policy
            chosen[self.d_rng.random(count) < self.expert_ends] = self._absorbed()
        return chosen

    def terminal_value(self) -> float:
        """Return what the state that absorbs is worth, where it is one: its reward for ever, discounted."""
        if not self.config.d_absorbing:
            return 0.0
        return float(self.logits_to_reward(self.logits(self._absorbed()[None]))[0]) / (1.0 - self.config.gamma)

    def rank_state_dict(self) -> dict[str, Any]:
        """Return what this worker alone has, and which episodes have just ended."""
        return super().rank_state_dict() | {"ended": self.ended.tolist()}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a worker's state."""
        super().load_rank_state_dict(state)
        self.ended = np.array(state["ended"], bool)

    def _absorbed(self) -> np.ndarray:
        """Return the inputs (I,) of the state after an end: zeros, and a mark (Kostrikov et al. 2019, sec. 4.2)."""
        return np.append(np.zeros(self.penalty_dims - 1), 1.0).astype(np.float32)
