"""What adversarial imitation has in common: PPO whose reward is learned by telling the policy from the expert.

An algorithm says what its discriminator sees of a step, what it looks like, and what of its answer is the reward.
Choices and their defaults follow "What Matters for Adversarial Imitation Learning?" (Orsini et al. 2021).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from milozero.agents.base import AgentContext
from milozero.agents.bc_agent import BCAgent, BCConfig
from milozero.agents.policy import PolicyConfig, make_mlp
from milozero.agents.ppo_agent import PPO_METRICS, PPOAgent, PPOConfig
from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import subsample_transitions
from milozero.helpers.config.params import param
from milozero.helpers.lazy import lazy_import
from milozero.helpers.seeding import Purpose, generator, integer
from milozero.tracking.metrics import Metric

if TYPE_CHECKING:
    import torch

    from milozero.agents.learning import optimizer as optimizers
    from milozero.agents.nn import discriminator as discriminators
else:
    torch = lazy_import("torch")
    discriminators = lazy_import("milozero.agents.nn.discriminator")
    optimizers = lazy_import("milozero.agents.learning.optimizer")


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(PPOConfig):
    """Hyper-parameters of a discriminator and its use, besides those of the policy."""

    d_lr: float = param(3e-4, "learning rate of the discriminator, constant", low=0)
    d_batch_size: int = param(128, "steps of the policy, and as many of the expert, in its minibatch", low=1)
    d_steps: int = param(1, "passes over a rollout that it makes when it learns", low=1)
    g_steps: int = param(1, "iterations of the policy between these", low=1)
    d_reward: str = param(
        "positive",
        "−log(1 − D), never negative: rewards to live on; log D, never positive: to end; their sum: unbiased",
        choices=("positive", "negative", "unbiased"),
    )
    d_penalty: str = param(
        "wgan",
        "where its gradient is held to 1: between both (wgan), there but only from above (one_sided), around the "
        "expert's (dragan)",
        choices=("none", "wgan", "one_sided", "dragan"),
    )
    d_penalty_coef: float = param(10.0, "weight of that penalty", low=0)
    d_spectral_norm: bool = param(False, "spectral normalization of its layers")
    d_batch_norm: bool = param(False, "batch normalization in it, moments over all workers")
    d_ent_coef: float = param(1e-3, "weight of the entropy of its answers", low=0)
    d_label_smoothing: float = param(0.0, "the expert's label is 1 less this", low=0, high=0.5)
    d_ablation: str = param(
        "off",
        "instead of the expert's steps: noise (none), from which nothing can be learned but the reward's sign; or "
        "shuffled, each number from a step of its own, which leaves only how often it takes which value; neither "
        "starts warm",
        choices=("off", "shuffled", "none"),
    )
    bc_pretrain_epochs: int = param(
        0, "passes of behavioral cloning over the demonstrations before the first rollout", low=0
    )


ADVERSARIAL_METRICS = {
    **PPO_METRICS,
    "d_loss": Metric(
        "discriminator",
        "nats",
        "mean cross-entropy of the discriminator on the expert's and on the policy's steps, added",
        "2 ln 2 = 1.39 when it cannot tell them; near 0 for long: too strong, the policy learns nothing from it",
        "Ho & Ermon 2016, eq. 14",
    ),
    "d_prob_expert": Metric(
        "discriminator", "share", "mean probability it gives the expert's steps of being the expert's", "towards 0.5"
    ),
    "d_prob_policy": Metric(
        "discriminator", "share", "mean probability it gives the policy's steps of being the expert's", "towards 0.5"
    ),
    "d_penalty": Metric(
        "discriminator",
        "–",
        "mean of the gradient penalty, without its coefficient; 0 with `d_penalty=none`",
        "small beside `d_loss`",
        "Gulrajani et al. 2017, eq. 3; Kodali et al. 2017",
    ),
    "d_reward": Metric(
        "discriminator", "reward", "mean reward that the discriminator gives the rollout's steps", "steady, or rises"
    ),
}


class AdversarialAgent(PPOAgent):
    """A policy that learns by PPO from the rewards of a discriminator; what that is, an algorithm says.

    Attributes:
        penalty_dims: how many of the first of the discriminator's inputs its gradient penalty is about.
    """

    METRICS = ADVERSARIAL_METRICS
    LEARNS_FROM_DEMOS = True
    DISCRIMINATES = True
    config: AdversarialConfig
    discriminator: Any  # (B, I) → logits (B,)
    penalty_dims: int

    def __init__(
        self, config: AdversarialConfig, observation_size: int, action_space: Any, context: AgentContext
    ) -> None:
        super().__init__(config, observation_size, action_space, context)
        self.space = action_space
        self.iterations = context.iteration
        self.stack = context.imitation.d_perception_stack
        size = int(np.prod(action_space.shape)) if action_space.shape else int(action_space.n)
        rng = torch.Generator().manual_seed(integer(context.seed, Purpose.PARAMETERS, 1))
        self.discriminator = self.make_discriminator(observation_size, size, rng).to(self.device)
        self.d_optimizer = optimizers.Optimizer(
            self.discriminator,
            self.d_loss,
            lambda name: config.d_lr,
            clip_norm=0.0,
            comm=context.comm,
            compile=context.compile,
        )
        self.d_rng = generator(context.seed, Purpose.DISCRIMINATOR, context.comm.rank, context.iteration)
        if context.demos:
            drawn = generator(context.seed, Purpose.DEMONSTRATIONS)  # the same on every worker
            self.expert = subsample_transitions(
                context.demos, context.imitation.demo_subsampling, drawn, getattr(action_space, "start", 0)
            )
            if config.d_ablation == "shuffled":  # each number comes from a step of its own
                names = ("obs", "actions", "next_obs")
                shuffled = {name: drawn.permuted(getattr(self.expert, name), axis=0) for name in names}
                self.expert = dataclasses.replace(self.expert, **shuffled)
            if config.bc_pretrain_epochs and config.d_ablation == "off" and not context.iteration:
                self._clone(observation_size, context)

    def make_discriminator(self, observation_size: int, action_size: int, rng: torch.Generator) -> torch.nn.Module:
        """Return the network whose logits (B,) tell the expert from the policy; set `penalty_dims`."""
        raise NotImplementedError

    def features(self, obs: np.ndarray, actions: np.ndarray, next_obs: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return what the discriminator sees (..., I) of steps, whose observations come normalized.

        Args:
            obs: (..., O), before the step.
            actions: (..., A) or, of a finite set, (...).
            next_obs: (..., O), after it.
            ends: (...), the episode ended with it by its own rules.
        """
        raise NotImplementedError

    def rollout_features(self, rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs (T, N, I) of a rollout's steps, and which of them there are (T, N)."""
        obs = self.observations(rollout.obs)
        return self.features(obs[:-1], rollout.actions, obs[1:], rollout.terminated), rollout.mask

    def terminal_value(self) -> float:
        """Return the rewards to come, discounted, after an episode that ended by its own rules."""
        return 0.0

    def update(self, rollout: Rollout, progress: float, *, terminal_value: float = 0.0) -> dict[str, float]:
        """Learn from one rollout, whose own rewards are not looked at; `progress` goes from 0 to 1 over the run.

        Raises:
            NonFiniteError: where a loss, gradient or parameter is no longer finite, naming it.
        """
        features, mask = self.rollout_features(rollout)
        d_metrics, learned = (
            dict.fromkeys(("d_loss", "d_prob_expert", "d_prob_policy", "d_penalty"), float("nan")),
            None,
        )
        if self.iterations % self.config.g_steps == 0:
            d_metrics, learned = self._update_discriminator(features[mask], rollout.mask.size)
        self.iterations += 1
        rewards = np.where(rollout.mask, self.logits_to_reward(self.scores(features, rollout.mask)), 0.0).astype(
            np.float32
        )
        terminal_value = self.terminal_value()
        if learned is not None:  # only now: the rewards are of the function that has learned
            self.discriminator.update_batch_norm(learned, self.comm)
        with_rewards = dataclasses.replace(rollout, rewards=rewards)
        metrics = super().update(with_rewards, progress, terminal_value=terminal_value)
        mean = self.comm.mean_(np.array([rewards[rollout.mask].mean()]))[0]
        return metrics | d_metrics | {"d_reward": float(mean)}

    def d_loss(
        self,
        params: dict[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the discriminator's loss (Ho & Ermon 2016, eq. 14) of a minibatch, fields (B, I).

        Its labels are 1 for the expert and 0 for the policy.
        """
        config = self.config

        def compute_logits(x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = torch.func.functional_call(self.discriminator, params, (x,))
            return answer

        expert, policy = compute_logits(batch["expert"]), compute_logits(batch["policy"])
        softplus = torch.nn.functional.softplus
        smooth = config.d_label_smoothing
        cross_entropy = ((1.0 - smooth) * softplus(-expert) + smooth * softplus(expert)).mean() + softplus(
            policy
        ).mean()
        penalty = expert.new_zeros(())
        if config.d_penalty != "none":
            other = batch["expert"] + batch["noise"] if config.d_penalty == "dragan" else batch["policy"]
            where = batch["expert"] + batch["mix"] * (other - batch["expert"])  # one coefficient a step
            gradient = torch.func.grad(lambda x: compute_logits(x).sum())(where)[:, : self.penalty_dims]  # (B, ≤ I)
            excess = torch.sqrt((gradient * gradient).sum(1) + 1e-12) - 1.0
            if config.d_penalty == "one_sided":
                excess = torch.relu(excess)
            penalty = (excess * excess).mean()
        both = torch.cat([expert, policy])
        entropy = ((1.0 - torch.sigmoid(both)) * both + softplus(-both)).mean()
        total = cross_entropy + config.d_penalty_coef * penalty - config.d_ent_coef * entropy
        return total, {
            "d_loss": cross_entropy,
            "d_prob_expert": torch.sigmoid(expert).mean(),
            "d_prob_policy": torch.sigmoid(policy).mean(),
            "d_penalty": penalty,
        }

    def logits_to_reward(self, logits: np.ndarray) -> np.ndarray:
        """Return the rewards of logits, by softplus: the logarithm of a rounded probability would be infinite."""
        positive, negative = np.logaddexp(0.0, logits), -np.logaddexp(0.0, -logits)
        return {"positive": positive, "negative": negative, "unbiased": logits}[self.config.d_reward]

    def parameter_hash(self) -> int:
        """Return a checksum of all parameters."""
        return super().parameter_hash() * 31 + self.d_optimizer.params.hash()

    def state_dict(self) -> dict[str, Any]:
        """Return networks, discriminator, Adam's moments and normalizers."""
        buffers = {name: buffer.cpu().clone() for name, buffer in self.discriminator.named_buffers()}
        return super().state_dict() | {"d_optimizer": self.d_optimizer.state_dict(), "d_buffers": buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        super().load_state_dict(state)
        self.d_optimizer.load_state_dict(state["d_optimizer"])
        for name, buffer in self.discriminator.named_buffers():
            buffer.copy_(state["d_buffers"][name])

    def rank_state_dict(self) -> dict[str, Any]:
        """Return what PPO's worker has, and the choice of the expert's steps."""
        return super().rank_state_dict() | {"discriminator": self.d_rng.bit_generator.state}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a worker's state."""
        super().load_rank_state_dict(state)
        self.d_rng.bit_generator.state = state["discriminator"]

    def layers(self, inputs: int, rng: torch.Generator) -> discriminators.MLPHead:
        """Return a network of one output, with the discriminator's hidden layers."""
        more = {"batch_norm": self.config.batch_norm_all or self.config.d_batch_norm}
        stack = make_mlp(self.config, self.stack, inputs, rng, **more)
        return discriminators.MLPHead(stack, rng, self.config.d_spectral_norm)

    def encode_actions(self, actions: np.ndarray) -> np.ndarray:
        """Return actions (..., A) as networks see them: those of a finite set as marks.

        Others are clipped as the environment clips them: the expert's are, and must not be told by that.
        """
        if self.space.shape:
            return np.clip(actions, self.space.low, self.space.high)
        return np.eye(int(self.space.n))[actions]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the discriminator's logits (...) for what it sees (..., I)."""
        with torch.no_grad():
            return np.asarray(self.discriminator(self.tensor(features)).cpu().numpy())

    def scores(self, features: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the logits (T, N) by which a rollout's steps are rewarded; `mask` (T, N), those there are."""
        return self.logits(features)

    def sample_expert(self, count: int) -> np.ndarray:
        """Return what the discriminator sees (count, I) of steps of the expert, drawn at random."""
        rng, size = self.d_rng, self.expert.obs.shape[1]
        if self.config.d_ablation == "none":
            obs, next_obs = rng.standard_normal((2, count, size), np.float32)
            shape = self.space.shape
            actions = rng.standard_normal((count, *shape)) if shape else rng.integers(self.space.n, size=count)
            return self.features(obs, actions, next_obs, np.zeros(count, bool))
        chosen = rng.integers(len(self.expert), size=count)
        obs, next_obs = (self.observations(of[chosen]) for of in (self.expert.obs, self.expert.next_obs))
        return self.features(obs, self.expert.actions[chosen], next_obs, self.expert.terminated[chosen])

    def _update_discriminator(self, policy: np.ndarray, count: int) -> tuple[dict[str, float], torch.Tensor]:
        """Let the discriminator learn from steps of the policy (K, I) and as many of the expert.

        Every worker makes as many minibatches, of `count` steps in a pass, however many of its rows are dead.

        Returns:
            metrics, and what the last pass was over.
        """
        config, rng = self.config, self.d_rng
        for _ in range(config.d_steps):
            self.discriminator.refresh()
            chosen = self.sample_expert(count)
            fields = {"expert": chosen, "policy": policy[np.resize(rng.permutation(len(policy)), count)]}
            if config.d_penalty != "none":
                fields["mix"] = rng.random((count, 1), np.float32)
            if config.d_penalty == "dragan":
                fields["noise"] = 0.5 * chosen.std(0) * rng.random(chosen.shape, np.float32)
            batch = {name: self.tensor(field) for name, field in fields.items()}
            self.d_optimizer.run_epoch(optimizers.PackedBatch(batch), config.d_batch_size, rng)
        self.discriminator.refresh()
        metrics = self.d_optimizer.pop_metrics()
        del metrics["grad_norm"]
        return metrics, torch.cat([batch["expert"], batch["policy"]])

    def _clone(self, observation_size: int, context: AgentContext) -> None:
        """Begin with most probable actions, and moments of observations, that are cloned from the demonstrations."""
        own = {each.name: getattr(self.config, each.name) for each in dataclasses.fields(PolicyConfig)}
        cloning = BCConfig(**own | {"epochs": 1, "lr_schedule": "constant"}, bc_validation=0.0)
        plain = AgentContext(context.comm, seed=context.seed, demos=context.demos, imitation=context.imitation)
        cloner = BCAgent(cloning, observation_size, self.space, plain)
        for _ in range(self.config.bc_pretrain_epochs):
            cloner.clone(0.0)
        learned = cloner.network.state_dict()
        learned.pop("head.log_std", None)  # an expert without noise would leave nothing to explore with
        self.network.load_state_dict(learned, strict=False)  # in place; the value function is not cloned
        self.actor.refresh()
        self.observations.load_state_dict(cloner.observations.state_dict())
