"""Adversarial inverse reinforcement learning (AIRL, Fu et al. 2018): PPO on a learned, transferable reward.

The discriminator's logit is f(s, s') − log π(a|s), with f(s, s') = g(s) + γ h(s') − h(s) (eq. 4). g is a reward of
the state only, and h is a shaping potential that absorbs what depends on the dynamics.

The policy's reward uses the logit f − E[log π] instead of the paper's f − log π, which adds an entropy bonus whose
weight relative to f depends on the gradient penalty; `--ent_coef` sets that weight directly. `--d_reward` converts
the logit to a reward. The default is −log(1 − D), because the paper's choice, the logit itself (``unbiased``), favors
early termination while D is strong. Another policy can be trained on g; see `learned_reward`.

With `d_absorbing`, the absorbing state s_a is a state like any other: s and s' have one more dimension, its flag.
g and h learn its reward and its potential, so shaping adds −h(s_0) to the return of every episode, whether or not it
terminates. No action is chosen in s_a, so log π = 0, and its reward is computed from f(s_a, s_a).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from milozero.agents.adversarial import AdversarialAgent
from milozero.agents.adversarial_config import AIRLConfig
from milozero.agents.nn.discriminator import ShapedReward
from milozero.agents.rollout import Rollout


class AIRLAgent(AdversarialAgent):
    """A policy trained by PPO on a reward that explains the expert's behavior."""

    Config = AIRLConfig
    config: AIRLConfig
    discriminator: ShapedReward
    mean_log_prob = 0.0  # E[log π(a|s)] of the last rollout, over all workers

    def make_discriminator(self, observation_size: int, action_size: int, rng: torch.Generator) -> ShapedReward:
        """Return g and h; the gradient penalty does not cover the last two features (see `features`)."""
        num_actions = 0 if self.config.d_state_only else action_size
        state_size = observation_size + int(self.config.d_absorbing)
        self.penalty_dims = 2 * state_size + num_actions
        reward = self.make_mlp_head(state_size + num_actions, rng)
        potential = self.make_mlp_head(state_size, rng)
        return ShapedReward(reward, potential, state_size, self.config.gamma)

    def features(
        self, obs: np.ndarray, actions: np.ndarray, next_obs: np.ndarray, terminated: np.ndarray
    ) -> np.ndarray:
        """Return s, s', a (unless `d_state_only`), 1 − terminated and log π(a|s) (..., I), with the current policy π.

        Actions are clipped to the action space. With `d_absorbing`, a terminated step leads to the absorbing state
        instead of a state without potential.
        """
        encoded = self.encode_actions(actions)
        parts = [self._add_flag(obs), self._add_flag(next_obs, terminated)]
        if not self.config.d_state_only:
            parts.append(encoded)
        clipped = encoded.astype(np.float32) if self.action_space.shape else np.asarray(actions, np.int64)
        with torch.no_grad():
            latent = self.network.policy(self.to_tensor(obs))
            log_probs, _ = self.network.head.log_prob(latent, self.to_tensor(clipped))
        not_terminated = ~terminated | self.config.d_absorbing
        tail = np.stack([not_terminated, log_probs.cpu().numpy()], axis=-1)
        return np.concatenate([*parts, tail], axis=-1).astype(np.float32)

    def absorbing_features(self) -> np.ndarray:
        """Return the features (I,) of a step from the absorbing state to itself, with log π = 0."""
        features, size = np.zeros(self.penalty_dims + 2), self.discriminator.state_size
        features[[size - 1, 2 * size - 1, -2]] = 1.0  # the flags of s and s', and 1 − terminated
        return features.astype(np.float32)

    def scores(self, features: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return f − E[log π] (T, N), with the mean over the steps of all workers (collective)."""
        log_probs = features[..., -1]
        total, count = self.comm.sum_(np.array([log_probs[mask].sum(dtype=np.float64), mask.sum()]))
        self.mean_log_prob = float(total / count)
        return np.asarray(self.logits(features) + log_probs - np.float32(self.mean_log_prob))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of adversarial imitation and E[log π]."""
        return super().state_dict() | {"mean_log_prob": self.mean_log_prob}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state)
        self.mean_log_prob = float(state["mean_log_prob"])

    def learned_reward(self, rollout: Rollout) -> np.ndarray:
        """Return the learned reward (T, N) of a rollout's steps, 0 for padding steps.

        This is the agent's own reward without the shaping potential: g − E[log π], converted by `d_reward`, so with
        the same survival or termination bias.
        """
        parts = [self._add_flag(self.obs_normalizer(rollout.obs[:-1]))]
        if not self.config.d_state_only:
            parts.append(self.encode_actions(rollout.actions))
        inputs = self.to_tensor(np.concatenate(parts, axis=-1).astype(np.float32))
        with torch.no_grad():
            g = self.discriminator.reward(inputs).cpu().numpy()
        rewards = self.logits_to_reward(g - np.float32(self.mean_log_prob))
        return np.where(rollout.mask, rewards, 0.0).astype(np.float32)

    def learned_terminal_value(self, gamma: float) -> float:
        """Return a terminal state's value under the learned reward: r / (1 − γ) if `d_absorbing`, otherwise 0."""
        if not self.config.d_absorbing:
            return 0.0
        features = self.to_tensor(self.absorbing_features())
        with torch.no_grad():
            g = self.discriminator.reward(self.discriminator.reward_inputs(features)).cpu().numpy()
        return float(self.logits_to_reward(g)) / (1.0 - gamma)

    def _add_flag(self, obs: np.ndarray, absorbing: np.ndarray | bool = False) -> np.ndarray:
        """Return states (..., O + 1) with the absorbing state's flag if `d_absorbing`, otherwise `obs` (..., O).

        Where `absorbing` (...), the observation is replaced by zeros and the flag is 1.
        """
        if not self.config.d_absorbing:
            return obs
        flag = np.broadcast_to(absorbing, obs.shape[:-1])[..., None]
        return np.concatenate([np.where(flag, 0.0, obs), flag], axis=-1)
