"""Generative adversarial imitation learning (Ho & Ermon 2016), whole: PPO whose reward is a discriminator's.

The discriminator tells the expert's steps from the policy's; the policy is rewarded for steps that look like the
expert's. The environment's own reward is measured, and never learned from. Choices and their defaults follow "What
Matters for Adversarial Imitation Learning?" (Orsini et al. 2021).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.agent import Setting
from agents.policy import make_perception
from agents.ppo_agent import PPO_METRICS, PPOAgent, PPOConfig
from helpers.config import param
from helpers.demos import transitions
from helpers.errors import UserError
from helpers.lazy import lazy_import
from helpers.metrics import Metric
from helpers.rollout import Rollout
from helpers.seeding import Purpose, generator, integer

if TYPE_CHECKING:
    import torch

    from agents import discriminator
    from agents import optimizer as optimizers
else:
    torch = lazy_import("torch")
    discriminator = lazy_import("agents.discriminator")
    optimizers = lazy_import("agents.optimizer")


@dataclass(frozen=True, kw_only=True)
class GAILConfig(PPOConfig):
    """Hyper-parameters of GAIL, besides those of its policy."""

    d_lr: float = param(3e-4, "learning rate of the discriminator, constant", low=0)
    d_batch_size: int = param(128, "steps of the policy, and as many of the expert, in its minibatch", low=1)
    d_steps: int = param(1, "passes over a rollout that it makes when it learns", low=1)
    g_steps: int = param(1, "iterations of the policy between these", low=1)
    d_penalty: str = param(
        "wgan",
        "where its gradient is held to 1: between both (wgan), there but only from above (one_sided), around the "
        "expert's (dragan)",
        choices=("none", "wgan", "one_sided", "dragan"),
    )
    d_penalty_coefficient: float = param(10.0, "weight of that penalty", low=0)
    d_spectral_norm: bool = param(False, "spectral normalisation of its layers")
    d_batch_norm: bool = param(False, "batch normalisation in it, moments over all workers")
    d_entropy_coefficient: float = param(1e-3, "weight of the entropy of its answers", low=0)
    d_label_smoothing: float = param(0.0, "the expert's label is 1 less this", low=0, high=0.5)
    d_state_only: bool = param(False, "it sees observations alone, no actions")
    d_reward: str = param(
        "positive",
        "−log(1 − D), never negative: rewards to live on; log D, never positive: to end; their sum: unbiased",
        choices=("positive", "negative", "unbiased"),
    )
    d_absorbing: bool = param(
        False, "what comes after an episode that ended by its own rules is a state of its own, for ever"
    )
    d_control: str = param(
        "",
        "instead of the expert's steps: noise (none), from which nothing can be learned but the reward's sign; or "
        "shuffled, each number from a step of its own, which leaves only how often it takes which value",
        choices=("", "shuffled", "none"),
    )


GAIL_METRICS = {
    **PPO_METRICS,
    "d_loss": Metric(
        "discriminator",
        "nats",
        "mean cross-entropy of the discriminator on the expert's and on the policy's steps, added",
        "2 ln 2 = 1.39 when it cannot tell them; near 0 for long: too strong, the policy learns nothing from it",
        "Ho & Ermon 2016, eq. 14",
    ),
    "d_expert": Metric(
        "discriminator", "share", "mean probability it gives the expert's steps of being the expert's", "towards 0.5"
    ),
    "d_policy": Metric(
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


class GAILAgent(PPOAgent):
    """A policy that learns by PPO from the rewards of a discriminator."""

    Config = GAILConfig
    METRICS = GAIL_METRICS
    LEARNS_FROM_DEMOS = True
    config: GAILConfig

    def __init__(self, config: GAILConfig, observation_size: int, action_space: Any, setting: Setting) -> None:
        super().__init__(config, observation_size, action_space, setting)
        self.space = action_space
        self.iterations = setting.iteration
        rng = torch.Generator().manual_seed(integer(setting.seed, Purpose.PARAMETERS, 1))
        size = int(np.prod(action_space.shape)) if action_space.shape else int(action_space.n)
        actions = 0 if config.d_state_only else size
        self.inputs = observation_size + actions + int(config.d_absorbing)
        more = {"batch_norm": config.batch_norm_all or config.d_batch_norm}
        stack = make_perception(config, setting.imitation.d_perception_stack, self.inputs, rng, **more)
        self.discriminator = discriminator.Discriminator(stack, rng, config.d_spectral_norm).to(self.device)
        self.d_optimizer = optimizers.Optimizer(
            self.discriminator,
            self.d_loss,
            lambda name: config.d_lr,
            clip_norm=0.0,
            comm=setting.comm,
            compile=setting.compile,
        )
        self.ended = np.zeros(setting.num_envs, bool)  # by its own rules, with the step before this rollout
        self.d_rng = generator(setting.seed, Purpose.DISCRIMINATOR, setting.comm.rank, setting.iteration)
        if config.d_absorbing and config.gamma == 1.0:
            raise UserError("--d_absorbing needs a --gamma below 1: rewards for ever must add up to something")
        if setting.demos:
            drawn = generator(setting.seed, Purpose.DEMONSTRATIONS)  # the same on every worker
            self.expert = transitions(
                setting.demos, setting.imitation.demo_subsampling, drawn, getattr(action_space, "start", 0)
            )
            ends, steps = sum(e.terminated for e in setting.demos), sum(map(len, setting.demos))
            self.expert_ends = ends / (steps + ends)  # share of the state that absorbs, once an episode
            if config.d_control == "shuffled":  # each number comes from a step of its own
                shuffled = {name: drawn.permuted(getattr(self.expert, name), axis=0) for name in ("obs", "actions")}
                self.expert = dataclasses.replace(self.expert, **shuffled)

    def update(self, rollout: Rollout, progress: float, *, value_of_end: float = 0.0) -> dict[str, float]:
        """Learn from one rollout, whose own rewards are not looked at; `progress` goes from 0 to 1 over the run.

        Raises:
            NonFiniteError: where a loss, gradient or parameter is no longer finite, naming it.
        """
        config = self.config
        inputs = self._inputs(rollout.obs[:-1], rollout.actions)  # (T, N, I)
        seen = rollout.valid
        if config.d_absorbing:  # the dead row after an end is where the state that absorbs is seen
            after = np.concatenate([self.ended[None], rollout.terminated[:-1]]) & ~rollout.valid
            inputs[after], seen = self._absorbed(), seen | after
            self.ended = rollout.terminated[-1].copy()
        told, learned = dict.fromkeys(("d_loss", "d_expert", "d_policy", "d_penalty"), float("nan")), None
        if self.iterations % config.g_steps == 0:
            told, learned = self._learn_to_tell(inputs[seen], rollout.valid.size)
        self.iterations += 1
        rewards = np.where(rollout.valid, self.reward_of(self._logits(inputs)), 0.0).astype(np.float32)
        for_ever = 0.0
        if config.d_absorbing:
            for_ever = float(self.reward_of(self._logits(self._absorbed()[None]))[0]) / (1.0 - config.gamma)
        if learned is not None:  # only now: the rewards are of the function that has learned
            self.discriminator.learn(learned, self.comm)
        metrics = super().update(dataclasses.replace(rollout, rewards=rewards), progress, value_of_end=for_ever)
        mean = self.comm.mean_(np.array([rewards[rollout.valid].mean()]))[0]
        return metrics | told | {"d_reward": float(mean)}

    def d_loss(
        self,
        params: dict[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the discriminator's loss (Ho & Ermon 2016, eq. 14) of a minibatch, fields (B, I).

        Its labels are 1 for the expert and 0 for the policy.
        """
        config = self.config

        def logits_of(x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = torch.func.functional_call(self.discriminator, params, (x,))
            return answer

        expert, policy = logits_of(batch["expert"]), logits_of(batch["policy"])
        softplus = torch.nn.functional.softplus
        smooth = config.d_label_smoothing
        told = ((1.0 - smooth) * softplus(-expert) + smooth * softplus(expert)).mean() + softplus(policy).mean()
        penalty = expert.new_zeros(())
        if config.d_penalty != "none":
            other = batch["expert"] + batch["noise"] if config.d_penalty == "dragan" else batch["policy"]
            where = batch["expert"] + batch["mix"] * (other - batch["expert"])  # one coefficient a step
            gradient = torch.func.grad(lambda x: logits_of(x).sum())(where)  # (B, I)
            excess = torch.sqrt((gradient * gradient).sum(1) + 1e-12) - 1.0
            if config.d_penalty == "one_sided":
                excess = torch.relu(excess)
            penalty = (excess * excess).mean()
        both = torch.cat([expert, policy])
        entropy = ((1.0 - torch.sigmoid(both)) * both + softplus(-both)).mean()
        total = told + config.d_penalty_coefficient * penalty - config.d_entropy_coefficient * entropy
        return total, {
            "d_loss": told,
            "d_expert": torch.sigmoid(expert).mean(),
            "d_policy": torch.sigmoid(policy).mean(),
            "d_penalty": penalty,
        }

    def reward_of(self, logits: np.ndarray) -> np.ndarray:
        """Return the rewards of logits, by softplus: the logarithm of a rounded probability would be infinite."""
        positive, negative = np.logaddexp(0.0, logits), -np.logaddexp(0.0, -logits)
        return {"positive": positive, "negative": negative, "unbiased": logits}[self.config.d_reward]

    def parameter_hash(self) -> int:
        """Return a checksum of all parameters."""
        return super().parameter_hash() * 31 + self.d_optimizer.params.hash()

    def state_dict(self) -> dict[str, Any]:
        """Return networks, discriminator, Adam's moments and normalisers."""
        buffers = {name: buffer.cpu().clone() for name, buffer in self.discriminator.named_buffers()}
        return super().state_dict() | {"d_optimizer": self.d_optimizer.state_dict(), "d_buffers": buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        super().load_state_dict(state)
        self.d_optimizer.load_state_dict(state["d_optimizer"])
        for name, buffer in self.discriminator.named_buffers():
            buffer.copy_(state["d_buffers"][name])

    def worker_state(self) -> dict[str, Any]:
        """Return what PPO's worker has, the choice of the expert's steps, and which episodes have just ended."""
        return super().worker_state() | {
            "discriminator": self.d_rng.bit_generator.state,
            "ended": self.ended.tolist(),
        }

    def load_worker_state(self, state: dict[str, Any]) -> None:
        """Take over a worker's state."""
        super().load_worker_state(state)
        self.d_rng.bit_generator.state = state["discriminator"]
        self.ended = np.array(state["ended"], bool)

    def _inputs(self, obs: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return what the discriminator sees (..., I): both kinds of steps through the policy's normaliser.

        Actions are clipped as the environment clips them: the expert's are, and must not be told by that.
        """
        parts = [self.observations(obs)]
        if not self.config.d_state_only:
            if self.space.shape:
                parts.append(np.clip(actions, self.space.low, self.space.high))
            else:
                parts.append(np.eye(int(self.space.n))[actions])
        if self.config.d_absorbing:
            parts.append(np.zeros((*obs.shape[:-1], 1)))
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def _absorbed(self) -> np.ndarray:
        """Return the inputs (I,) of the state after an end: zeros, and a mark (Kostrikov et al. 2019, sec. 4.2)."""
        return np.append(np.zeros(self.inputs - 1), 1.0).astype(np.float32)

    def _logits(self, inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(self.discriminator(self.tensor(inputs)).cpu().numpy())

    def _learn_to_tell(self, policy: np.ndarray, count: int) -> tuple[dict[str, float], torch.Tensor]:
        """Let the discriminator learn from steps of the policy (K, I) and as many of the expert.

        Every worker makes as many minibatches, of `count` steps in a pass, however many of its rows are dead.

        Returns:
            metrics, and what the last pass was over.
        """
        config, rng = self.config, self.d_rng
        expert = self._inputs(self.expert.obs, self.expert.actions)
        for _ in range(config.d_steps):
            self.discriminator.refresh()
            chosen = expert[rng.integers(len(expert), size=count)]
            if config.d_absorbing:
                chosen[rng.random(count) < self.expert_ends] = self._absorbed()
            if config.d_control == "none":
                chosen = rng.standard_normal(chosen.shape, np.float32)
            fields = {"expert": chosen, "policy": policy[np.resize(rng.permutation(len(policy)), count)]}
            if config.d_penalty != "none":
                fields["mix"] = rng.random((count, 1), np.float32)
            if config.d_penalty == "dragan":
                fields["noise"] = 0.5 * chosen.std(0) * rng.random(chosen.shape, np.float32)
            batch = {name: self.tensor(field) for name, field in fields.items()}
            self.d_optimizer.learn(optimizers.Packed(batch), config.d_batch_size, rng)
        self.discriminator.refresh()
        metrics = self.d_optimizer.take_metrics()
        del metrics["gradient_norm"]
        return metrics, torch.cat([batch["expert"], batch["policy"]])
