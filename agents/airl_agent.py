"""Adversarial inverse reinforcement learning (Fu et al. 2018): a discriminator that holds a reward.

Its logit is f − log π, where f(s, s') = g(s) + γ h(s') − h(s) (eq. 4): a reward g of the state alone, and a shaping
potential h that takes up what depends on the dynamics. The policy is rewarded by f less the mean of log π: with log π
of each step, as the paper has it, noise for its own sake would be paid for with the weight of f, which is steep only
where the gradient penalty lets it be; `--ent_coef` pays for it by a weight of its own. With
``--d_reward=unbiased`` that is the reward; by default −log(1 − D) of it, as episodes that end by falling would
otherwise be ended at once while D is strong. Of what is learned, g without h can be saved and another policy trained
on it: see `learned_reward`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from milozero.agents.adversarial import AdversarialAgent
from milozero.agents.airl_config import AIRLConfig
from milozero.agents.nn.discriminator import ShapedReward
from milozero.agents.rollout import Rollout


class AIRLAgent(AdversarialAgent):
    """A policy that learns by PPO from a reward that explains the expert."""

    Config = AIRLConfig
    config: AIRLConfig
    discriminator: ShapedReward
    mean_log_prob = 0.0  # of the last rollout's actions, over all workers

    def make_discriminator(self, observation_size: int, action_size: int, rng: torch.Generator) -> ShapedReward:
        """Return g and h; log π and whether the episode goes on come with the inputs, and are not held smooth."""
        actions = 0 if self.config.d_state_only else action_size
        self.penalty_dims = 2 * observation_size + actions
        reward, potential = self.layers(observation_size + actions, rng), self.layers(observation_size, rng)
        return ShapedReward(reward, potential, observation_size, self.config.gamma)

    def features(self, obs: np.ndarray, actions: np.ndarray, next_obs: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return what the discriminator sees (..., I) of steps; log π is that of the present policy.

        It is asked about actions as the environment clips them: of one beyond the limits, its density there.
        """
        parts = [obs, next_obs] if self.config.d_state_only else [obs, next_obs, self.encode_actions(actions)]
        taken = self.encode_actions(actions).astype(np.float32) if self.space.shape else np.asarray(actions, np.int64)
        with torch.no_grad():
            log_probs, _ = self.network.head.log_prob(self.network.policy(self.tensor(obs)), self.tensor(taken))
        tail = np.stack([~ends, log_probs.cpu().numpy()], axis=-1)
        return np.concatenate([*parts, tail], axis=-1).astype(np.float32)

    def scores(self, features: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return f − mean log π (T, N), the mean over the steps of all workers."""
        log_probs = features[..., -1]
        total, count = self.comm.sum_(np.array([log_probs[mask].sum(dtype=np.float64), mask.sum()]))
        self.mean_log_prob = float(total / count)
        return np.asarray(self.logits(features) + log_probs - np.float32(self.mean_log_prob))

    def state_dict(self) -> dict[str, Any]:
        """Return what all adversarial imitation has, and from where the learned reward counts."""
        return super().state_dict() | {"mean_log_prob": self.mean_log_prob}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        super().load_state_dict(state)
        self.mean_log_prob = float(state["mean_log_prob"])

    def learned_reward(self, rollout: Rollout) -> np.ndarray:
        """Return the learned reward (T, N) of a rollout's steps, 0 on dead rows.

        It is what the policy was rewarded by, less the potential: g − mean log π, in the form of `d_reward`. So
        where episodes end by falling, it pays for staying up as it did when it was learned.
        """
        parts = [self.observations(rollout.obs[:-1])]
        if not self.config.d_state_only:
            parts.append(self.encode_actions(rollout.actions))
        with torch.no_grad():
            g = (
                self.discriminator.reward(self.tensor(np.concatenate(parts, axis=-1).astype(np.float32)))
                .cpu()
                .numpy()
            )
        rewards = self.logits_to_reward(g - np.float32(self.mean_log_prob))
        return np.where(rollout.mask, rewards, 0.0).astype(np.float32)
