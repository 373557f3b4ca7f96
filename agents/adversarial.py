"""The base class of adversarial imitation: PPO on the reward of a discriminator.

A subclass defines the discriminator's network, its input features and the logits to convert to rewards.
Options and defaults follow "What Matters for Adversarial Imitation Learning?" (Orsini et al. 2021).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

from milozero.agents.absorbing import AbsorbingStates
from milozero.agents.adversarial_config import AdversarialConfig
from milozero.agents.base import AgentContext
from milozero.agents.bc_agent import BCAgent
from milozero.agents.bc_config import BCConfig
from milozero.agents.learning.optimizer import Optimizer, PackedBatch
from milozero.agents.nn.discriminator import MLPHead
from milozero.agents.policy import PolicyAgent
from milozero.agents.policy_config import EpochPolicyConfig
from milozero.agents.ppo_agent import PPOAgent
from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import Transitions, subsample_transitions
from milozero.helpers.seeding import Purpose, make_rng, make_seed


class AdversarialAgent(PPOAgent):
    """A policy trained by PPO on the reward of a discriminator, which is trained on demonstrations.

    Attributes:
        discriminator: network from features (B, I) to logits (B,), trained to be high for the expert.
        penalty_dims: number of leading features that the gradient penalty covers.
    """

    config: AdversarialConfig
    discriminator: Any
    penalty_dims: int

    def __init__(
        self, config: AdversarialConfig, observation_size: int, action_space: Any, context: AgentContext
    ) -> None:
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
            if config.bc_pretrain_epochs and config.d_ablation == "off" and not context.iteration:
                self._pretrain(observation_size, context)

    def make_discriminator(self, observation_size: int, action_size: int, rng: torch.Generator) -> torch.nn.Module:
        """Return the discriminator's network and set `penalty_dims`."""
        raise NotImplementedError

    def features(
        self, obs: np.ndarray, actions: np.ndarray, next_obs: np.ndarray, terminated: np.ndarray
    ) -> np.ndarray:
        """Return the discriminator's input features (..., I) of steps.

        Args:
            obs: (..., O), normalized, before the step.
            actions: (..., A), or (...) if discrete.
            next_obs: (..., O), normalized, after the step.
            terminated: (...), the step reached a terminal state.
        """
        raise NotImplementedError

    def absorbing_features(self) -> np.ndarray:
        """Return the features (I,) of a step in the absorbing state."""
        raise NotImplementedError

    def rollout_features(self, rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """Return the features (T, N, I) of a rollout's steps, and the mask (T, N) of those to train on.

        With `d_absorbing`, the padding step after a termination becomes a step in the absorbing state.
        """
        obs = self.obs_normalizer(rollout.obs)
        features = self.features(obs[:-1], rollout.actions, obs[1:], rollout.terminated)
        absorbing = self.absorbing.find(rollout)
        features[absorbing] = self.absorbing_features()
        return features, rollout.mask | absorbing

    def terminal_value(self) -> float:
        """Return the value r / (1 − γ) of the absorbing state if `d_absorbing`, otherwise 0."""
        if not self.config.d_absorbing:
            return 0.0
        reward = self.logits_to_reward(self.logits(self.absorbing_features()[None]))[0]
        return float(reward) / (1.0 - self.config.gamma)

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

    @property
    def reward_source(self) -> tuple[Any, ...]:
        """What determines the rewards: this algorithm, its settings of the reward, and the discriminator's layers."""
        config = self.config
        layers = {name: value.shape for name, value in self.discriminator.state_dict().items()}
        return (type(self), config.d_reward, config.d_absorbing, config.d_ablation, layers)

    def init_from(self, source: PolicyAgent) -> dict[str, bool]:
        """Copy what fits; the discriminator only from an agent with an equal `reward_source`."""
        fits = False
        if isinstance(source, AdversarialAgent) and self.reward_source == source.reward_source:
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
        """Return PPO's state of this worker, the discriminator's random generator and `last_terminated`."""
        ended = self.absorbing.last_terminated.tolist()
        return super().rank_state_dict() | {"discriminator": self.d_rng.bit_generator.state, "ended": ended}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `rank_state_dict` returned."""
        super().load_rank_state_dict(state)
        self.d_rng.bit_generator.state = state["discriminator"]
        self.absorbing.last_terminated = np.array(state["ended"], bool)

    def make_mlp_head(self, inputs: int, rng: torch.Generator) -> MLPHead:
        """Return a network with the discriminator's hidden layers and one output."""
        mlp = self.make_mlp(self.d_perception_stack, inputs, rng, batch_norm=self.config.d_batch_norm)
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

    def scores(self, features: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the logits (T, N) to convert to rewards, for features (T, N, I) and mask (T, N)."""
        return self.logits(features)

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

    def _update_discriminator(self, policy: np.ndarray, count: int) -> dict[str, float]:
        """Train the discriminator on features (K, I) of the policy and as many of the expert; return metrics.

        Args:
            policy: features of this worker's steps; K may differ between workers.
            count: samples per pass, the same on every worker, so that all take the same number of steps.
        """
        config, rng = self.config, self.d_rng
        for _ in range(config.d_steps):
            self.discriminator.refresh()
            expert = self.sample_expert(count)
            fields = {"expert": expert, "policy": policy[np.resize(rng.permutation(len(policy)), count)]}
            if config.d_penalty != "none":
                fields["mix"] = rng.random((count, 1), np.float32)
            if config.d_penalty == "dragan":  # perturbation ½ std(x) U(0, 1) (Kodali et al. 2017)
                fields["noise"] = 0.5 * expert.std(0, dtype=np.float64) * rng.random(expert.shape, np.float32)
            batch = {name: self.to_tensor(field) for name, field in fields.items()}
            self.d_optimizer.run_epoch(PackedBatch(batch), config.d_batch_size, rng)
        self.discriminator.refresh()
        metrics = self.d_optimizer.pop_metrics()
        del metrics["grad_norm"]
        return metrics

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
