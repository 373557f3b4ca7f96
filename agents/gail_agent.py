"""Generative adversarial imitation learning (GAIL, Ho & Ermon 2016): PPO on the reward of a discriminator.

The discriminator classifies steps as the expert's or the policy's, and rewards the policy for steps that resemble the
expert's. The environment's reward is logged, but not learned from.
"""

from __future__ import annotations

import numpy as np
import torch

from milozero.agents.adversarial import AdversarialAgent
from milozero.agents.adversarial_config import GAILConfig


class GAILAgent(AdversarialAgent):
    """A policy trained by PPO to be indistinguishable from the expert."""

    Config = GAILConfig
    config: GAILConfig

    def make_discriminator(self, observation_size: int, action_size: int, rng: torch.Generator) -> torch.nn.Module:
        """Return an MLP with one output, the logit."""
        num_actions = 0 if self.config.d_state_only else action_size
        self.penalty_dims = observation_size + num_actions + int(self.config.d_absorbing)
        return self.make_mlp_head(self.penalty_dims, rng)

    def features(
        self, obs: np.ndarray, actions: np.ndarray, next_obs: np.ndarray, terminated: np.ndarray
    ) -> np.ndarray:
        """Return s, a (unless `d_state_only`) and an absorbing flag of 0 (if `d_absorbing`): (..., I)."""
        parts = [obs]
        if not self.config.d_state_only:
            parts.append(self.encode_actions(actions))
        if self.config.d_absorbing:
            parts.append(np.zeros((*obs.shape[:-1], 1)))
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def absorbing_features(self) -> np.ndarray:
        """Return the features (I,) of a step in the absorbing state: zeros and a flag of 1."""
        return np.append(np.zeros(self.penalty_dims - 1), 1.0).astype(np.float32)
