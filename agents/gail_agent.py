"""Generative adversarial imitation learning (GAIL, Ho & Ermon 2016): PPO on the reward of a discriminator.

The discriminator classifies steps as the expert's or the policy's, and rewards the policy for steps that resemble the
expert's. The environment's reward is logged, but not learned from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from milozero.agents.adversarial import AdversarialAgent
from milozero.agents.adversarial_config import GAILConfig
from milozero.agents.base import AgentContext
from milozero.agents.rollout import Rollout
from milozero.helpers.errors import UserError


class GAILAgent(AdversarialAgent):
    """A policy trained by PPO to be indistinguishable from the expert.

    Raises:
        UserError: if absorbing states are enabled without discounting.
    """

    Config = GAILConfig
    config: GAILConfig

    def __init__(self, config: GAILConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        self.last_terminated = np.zeros(context.num_envs, bool)  # (N,) in the last step of the previous rollout
        if config.d_absorbing and config.gamma == 1.0:
            raise UserError("--d_absorbing needs a --gamma below 1: the return of the absorbing state would diverge")
        if context.demos:
            ends, steps = sum(e.terminated for e in context.demos), sum(map(len, context.demos))
            self.absorbing_share = ends / (steps + ends)  # one absorbing step for each terminated episode

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

    def rollout_features(self, rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """Return the features (T, N, I) of a rollout's steps, and the mask (T, N) of those to train on.

        With `d_absorbing`, the padding step after a termination becomes a step in the absorbing state.
        """
        features, mask = super().rollout_features(rollout)
        if self.config.d_absorbing:
            absorbing = np.concatenate([self.last_terminated[None], rollout.terminated[:-1]]) & ~rollout.mask
            features[absorbing], mask = self._absorbing_state(), mask | absorbing
        return features, mask

    def update(self, rollout: Rollout, progress: float, *, terminal_value: float = 0.0) -> dict[str, float]:
        """Update the discriminator, then the policy on its reward; return the metrics."""
        metrics = super().update(rollout, progress, terminal_value=terminal_value)
        self.last_terminated = rollout.terminated[-1].copy()
        return metrics

    def sample_expert(self, count: int) -> np.ndarray:
        """Return the features (count, I) of sampled expert steps, including absorbing ones if `d_absorbing`."""
        features = super().sample_expert(count)
        if self.config.d_absorbing:  # even if d_ablation=none, or this state would identify the policy
            features[self.d_rng.random(count) < self.absorbing_share] = self._absorbing_state()
        return features

    def terminal_value(self) -> float:
        """Return the value r / (1 − γ) of the absorbing state if `d_absorbing`, otherwise 0."""
        if not self.config.d_absorbing:
            return 0.0
        reward = self.logits_to_reward(self.logits(self._absorbing_state()[None]))[0]
        return float(reward) / (1.0 - self.config.gamma)

    def rank_state_dict(self) -> dict[str, Any]:
        """Return the state of this worker, including which episodes the last step terminated."""
        return super().rank_state_dict() | {"ended": self.last_terminated.tolist()}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `rank_state_dict` returned."""
        super().load_rank_state_dict(state)
        self.last_terminated = np.array(state["ended"], bool)

    def _absorbing_state(self) -> np.ndarray:
        """Return the absorbing state's features (I,): zeros and a flag of 1 (Kostrikov et al. 2019, sec. 4.2)."""
        return np.append(np.zeros(self.penalty_dims - 1), 1.0).astype(np.float32)
