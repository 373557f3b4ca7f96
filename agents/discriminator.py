"""The base class of agents that learn from the reward of a discriminator.

Subclasses decide when the discriminator is trained. By default, its network and inputs are those of GAIL. Options and
defaults follow "What Matters for Adversarial Imitation Learning?" (Orsini et al. 2021).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

from milozero.agents.absorbing import AbsorbingStates
from milozero.agents.base import AgentContext
from milozero.agents.learning.optimizer import Optimizer, PackedBatch
from milozero.agents.nn.discriminator import MLPHead
from milozero.agents.policy import PolicyAgent
from milozero.demonstrations.dataset import Transitions, subsample_transitions
from milozero.helpers.seeding import Purpose, make_rng, make_seed


class DiscriminatorAgent(PolicyAgent):
    """An agent with a discriminator, to combine with the agent that is trained on its reward.

    Attributes:
        discriminator: network from features (B, I) to logits (B,), trained to be high for the expert.
        penalty_dims: number of leading features that the gradient penalty covers.
    """

    config: Any  # a `DiscriminatorConfig` and the policy's configuration
    discriminator: Any
    penalty_dims: int

    def __init__(self, config: Any, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        self.action_space = action_space
        self.d_perception_stack = context.imitation.d_perception_stack
        action_size = int(np.prod(action_space.shape)) if action_space.shape else int(action_space.n)
        rng = torch.Generator().manual_seed(make_seed(context.seed, Purpose.PARAMETERS, 1))
        self.discriminator = self.make_discriminator(observation_size, action_size, rng).to(self.device)
        self.d_optimizer = Optimizer(
            self.discriminator,
            self.d_loss,
            lambda name: config.d_lr,
            clip_norm=0.0,
            comm=context.comm,
            compile=context.compile,
        )
        self.d_rng = make_rng(context.seed, Purpose.DISCRIMINATOR, context.comm.rank, context.iteration)
        self.absorbing = AbsorbingStates(config.d_absorbing, context.num_envs, context.demos)
        if context.demos:
            self.expert = self._make_expert(context)

    def make_discriminator(self, observation_size: int, action_size: int, rng: torch.Generator) -> torch.nn.Module:
        """Return the discriminator's network and set `penalty_dims`: an MLP with one output, the logit."""
        config = self.config
        num_actions = 0 if config.d_state_only else action_size
        self.penalty_dims = observation_size * (1 + config.d_next_obs) + num_actions + int(config.d_absorbing)
        return self.make_mlp_head(self.penalty_dims, rng)

    def features(
        self, obs: np.ndarray, actions: np.ndarray, next_obs: np.ndarray, terminated: np.ndarray
    ) -> np.ndarray:
        """Return the discriminator's input features (..., I) of steps.

        They are s, a (unless `d_state_only`), s' (if `d_next_obs`) and an absorbing flag of 0 (if `d_absorbing`).

        Args:
            obs: (..., O), normalized, before the step.
            actions: (..., A), or (...) if discrete.
            next_obs: (..., O), normalized, after the step.
            terminated: (...), the step reached a terminal state.
        """
        parts = [obs]
        if not self.config.d_state_only:
            parts.append(self.encode_actions(actions))
        if self.config.d_next_obs:
            parts.append(next_obs)
        if self.config.d_absorbing:
            parts.append(np.zeros((*obs.shape[:-1], 1)))
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def absorbing_features(self) -> np.ndarray:
        """Return the features (I,) of a step in the absorbing state: zeros and a flag of 1."""
        return np.append(np.zeros(self.penalty_dims - 1), 1.0).astype(np.float32)

    def d_loss(
        self, params: dict[str, torch.Tensor], batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the discriminator's loss (Ho & Ermon 2016, eq. 14) and metrics of a minibatch, fields (B, I).

        The label is 1 for the expert and 0 for the policy.
        """
        config = self.config

        def compute_logits(x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = torch.func.functional_call(self.discriminator, params, (x,))
            return logits

        # Cross-entropy −E_expert[log D] − E_policy[log(1 − D)], by −log D = softplus(−l), −log(1 − D) = softplus(l)
        expert, policy = compute_logits(batch["expert"]), compute_logits(batch["policy"])
        smoothing = config.d_label_smoothing
        expert_loss = ((1.0 - smoothing) * softplus(-expert) + smoothing * softplus(expert)).mean()
        cross_entropy = expert_loss + softplus(policy).mean()
        penalty = expert.new_zeros(())
        if config.d_penalty != "none":
            # Gradient penalty E[(‖∇_x logit(x)‖ − 1)²] at x = expert + u (other − expert), u ~ U(0, 1) per step
            other = batch["expert"] + batch["noise"] if config.d_penalty == "dragan" else batch["policy"]
            points = batch["expert"] + batch["mix"] * (other - batch["expert"])
            gradient = torch.func.grad(lambda x: compute_logits(x).sum())(points)[:, : self.penalty_dims]  # (B, ≤ I)
            excess = torch.sqrt((gradient * gradient).sum(1) + 1e-12) - 1.0
            if config.d_penalty == "one_sided":
                excess = torch.relu(excess)
            penalty = (excess * excess).mean()
        # Entropy of a Bernoulli with logit l: (1 − σ(l)) l + softplus(−l)
        logits = torch.cat([expert, policy])
        entropy = ((1.0 - torch.sigmoid(logits)) * logits + softplus(-logits)).mean()
        total = cross_entropy + config.d_penalty_coef * penalty - config.d_ent_coef * entropy
        return total, {
            "d_loss": cross_entropy,
            "d_prob_expert": torch.sigmoid(expert).mean(),
            "d_prob_policy": torch.sigmoid(policy).mean(),
            "d_penalty": penalty,
        }

    def logits_to_reward(self, logits: np.ndarray) -> np.ndarray:
        """Return the rewards for logits l, with D = σ(l), in the form that `d_reward` selects.

        positive: −log(1 − D) = softplus(l); negative: log D = −softplus(−l); unbiased: log D − log(1 − D) = l.
        Softplus is finite even if D rounds to 0 or 1.
        """
        positive, negative = np.logaddexp(0.0, logits), -np.logaddexp(0.0, -logits)
        return {"positive": positive, "negative": negative, "unbiased": logits}[self.config.d_reward]

    def terminal_value(self) -> float:
        """Return the value r / (1 − γ) of the absorbing state if `d_absorbing`, otherwise 0."""
        if not self.config.d_absorbing:
            return 0.0
        reward = self.logits_to_reward(self.logits(self.absorbing_features()[None]))[0]
        return float(reward) / (1.0 - self.config.gamma)

    @property
    def reward_source(self) -> tuple[Any, ...]:
        """What determines the rewards: this algorithm, its settings of the reward, and the discriminator's layers."""
        config = self.config
        layers = {name: value.shape for name, value in self.discriminator.state_dict().items()}
        inputs = [getattr(config, name, None) for name in ("d_state_only", "d_next_obs")]
        return (type(self), config.d_reward, config.d_absorbing, config.d_ablation, *inputs, layers)

    def init_from(self, source: PolicyAgent) -> dict[str, bool]:
        """Copy what fits; the discriminator only from an agent with an equal `reward_source`."""
        fits = False
        if isinstance(source, DiscriminatorAgent) and self.reward_source == source.reward_source:
            self.discriminator.load_state_dict(source.discriminator.state_dict())
            fits = True
        return super().init_from(source) | {"discriminator": fits}

    def parameter_hash(self) -> int:
        """Return a checksum of all parameters."""
        return super().parameter_hash() * 31 + self.d_optimizer.params.hash()

    def state_dict(self) -> dict[str, Any]:
        """Return the networks, the discriminator, Adam's moments and the normalizers."""
        buffers = {name: buffer.cpu().clone() for name, buffer in self.discriminator.named_buffers()}
        return super().state_dict() | {"d_optimizer": self.d_optimizer.state_dict(), "d_buffers": buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state)
        self.d_optimizer.load_state_dict(state["d_optimizer"])
        for name, buffer in self.discriminator.named_buffers():
            buffer.copy_(state["d_buffers"][name])

    def rank_state_dict(self) -> dict[str, Any]:
        """Return this worker's state, with the discriminator's random generator."""
        return super().rank_state_dict() | {"discriminator": self.d_rng.bit_generator.state}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `rank_state_dict` returned."""
        super().load_rank_state_dict(state)
        self.d_rng.bit_generator.state = state["discriminator"]

    def make_mlp_head(self, inputs: int, rng: torch.Generator, *, batch_norm: bool = False) -> MLPHead:
        """Return a network with the discriminator's hidden layers and one output."""
        mlp = self.make_mlp(self.d_perception_stack, inputs, rng, batch_norm=batch_norm)
        return MLPHead(mlp, rng, self.config.d_spectral_norm)

    def encode_actions(self, actions: np.ndarray) -> np.ndarray:
        """Return actions as network inputs (..., A): discrete ones one-hot, continuous ones clipped to their bounds.

        The expert's actions are clipped; unclipped ones would identify the policy.
        """
        if self.action_space.shape:
            return np.clip(actions, self.action_space.low, self.action_space.high)
        return np.eye(int(self.action_space.n))[actions]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the discriminator's logits (...) for features (..., I)."""
        with torch.no_grad():
            return np.asarray(self.discriminator(self.to_tensor(features)).cpu().numpy())

    def sample_expert(self, count: int) -> np.ndarray:
        """Return the features (count, I) of expert steps, sampled with replacement; some are absorbing."""
        features = self._sample_expert_steps(count)
        # Also if d_ablation=none; otherwise, this state would reveal the policy.
        features[self.absorbing.sample(count, self.d_rng)] = self.absorbing_features()
        return features

    def _sample_expert_steps(self, count: int) -> np.ndarray:
        """Return the features (count, I) of steps of the demonstrations, or of noise if ``d_ablation=none``."""
        rng, size = self.d_rng, self.expert.obs.shape[1]
        if self.config.d_ablation == "none":
            obs, next_obs = rng.standard_normal((2, count, size), np.float32)
            shape = self.action_space.shape
            actions = rng.standard_normal((count, *shape)) if shape else rng.integers(self.action_space.n, size=count)
            return self.features(obs, actions, next_obs, np.zeros(count, bool))
        rows = rng.integers(len(self.expert), size=count)
        obs, next_obs = (self.obs_normalizer(field[rows]) for field in (self.expert.obs, self.expert.next_obs))
        return self.features(obs, self.expert.actions[rows], next_obs, self.expert.terminated[rows])

    def _make_expert(self, context: AgentContext) -> Transitions:
        """Return the expert's steps, with every feature permuted separately if ``d_ablation=shuffled``."""
        rng = make_rng(context.seed, Purpose.DEMONSTRATIONS)  # the same on every worker
        expert = subsample_transitions(context.demos, context.imitation.demo_subsampling, rng)
        if self.config.d_ablation == "shuffled":
            names = ("obs", "actions", "next_obs")
            shuffled = {name: rng.permuted(getattr(expert, name), axis=0) for name in names}
            expert = dataclasses.replace(expert, **shuffled)
        return expert

    def make_d_batch(self, expert: np.ndarray, policy: np.ndarray) -> PackedBatch:
        """Return a batch for `d_loss` of steps of the expert and the policy, both features (K, I)."""
        config, rng = self.config, self.d_rng
        fields = {"expert": expert, "policy": policy}
        if config.d_penalty != "none":
            fields["mix"] = rng.random((len(expert), 1), np.float32)
        if config.d_penalty == "dragan":  # perturbation ½ std(x) U(0, 1) (Kodali et al. 2017)
            fields["noise"] = 0.5 * expert.std(0, dtype=np.float64) * rng.random(expert.shape, np.float32)
        return PackedBatch({name: self.to_tensor(field) for name, field in fields.items()})

    def pop_d_metrics(self) -> dict[str, float]:
        """Refresh the spectral norms after the discriminator's last step; return its metrics (collective)."""
        self.discriminator.refresh()
        metrics = self.d_optimizer.pop_metrics()
        del metrics["grad_norm"]
        return metrics
