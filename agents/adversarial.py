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

from milozero.agents.base import Setting
from milozero.agents.bc_agent import BCAgent, BCConfig
from milozero.agents.policy import PolicyConfig, make_perception
from milozero.agents.ppo_agent import PPO_METRICS, PPOAgent, PPOConfig
from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import transitions
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
    d_penalty_coefficient: float = param(10.0, "weight of that penalty", low=0)
    d_spectral_norm: bool = param(False, "spectral normalisation of its layers")
    d_batch_norm: bool = param(False, "batch normalisation in it, moments over all workers")
    d_entropy_coefficient: float = param(1e-3, "weight of the entropy of its answers", low=0)
    d_label_smoothing: float = param(0.0, "the expert's label is 1 less this", low=0, high=0.5)
    d_control: str = param(
        "off",
        "instead of the expert's steps: noise (none), from which nothing can be learned but the reward's sign; or "
        "shuffled, each number from a step of its own, which leaves only how often it takes which value; neither "
        "starts warm",
        choices=("off", "shuffled", "none"),
    )
    warm_start: int = param(
        0, "passes of behavioural cloning over the demonstrations before the first rollout", low=0
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


class AdversarialAgent(PPOAgent):
    """A policy that learns by PPO from the rewards of a discriminator; what that is, an algorithm says.

    Attributes:
        penalised: how many of the first of the discriminator's inputs its gradient penalty is about.
    """

    METRICS = ADVERSARIAL_METRICS
    LEARNS_FROM_DEMOS = True
    DISCRIMINATES = True
    config: AdversarialConfig
    discriminator: Any  # (B, I) → logits (B,)
    penalised: int

    def __init__(self, config: AdversarialConfig, observation_size: int, action_space: Any, setting: Setting) -> None:
        super().__init__(config, observation_size, action_space, setting)
        self.space = action_space
        self.iterations = setting.iteration
        self.stack = setting.imitation.d_perception_stack
        size = int(np.prod(action_space.shape)) if action_space.shape else int(action_space.n)
        rng = torch.Generator().manual_seed(integer(setting.seed, Purpose.PARAMETERS, 1))
        self.discriminator = self.make_discriminator(observation_size, size, rng).to(self.device)
        self.d_optimizer = optimizers.Optimizer(
            self.discriminator,
            self.d_loss,
            lambda name: config.d_lr,
            clip_norm=0.0,
            comm=setting.comm,
            compile=setting.compile,
        )
        self.d_rng = generator(setting.seed, Purpose.DISCRIMINATOR, setting.comm.rank, setting.iteration)
        if setting.demos:
            drawn = generator(setting.seed, Purpose.DEMONSTRATIONS)  # the same on every worker
            self.expert = transitions(
                setting.demos, setting.imitation.demo_subsampling, drawn, getattr(action_space, "start", 0)
            )
            if config.d_control == "shuffled":  # each number comes from a step of its own
                names = ("obs", "actions", "next_obs")
                shuffled = {name: drawn.permuted(getattr(self.expert, name), axis=0) for name in names}
                self.expert = dataclasses.replace(self.expert, **shuffled)
            if config.warm_start and config.d_control == "off" and not setting.iteration:
                self._clone(observation_size, setting)

    def make_discriminator(self, observation_size: int, action_size: int, rng: torch.Generator) -> torch.nn.Module:
        """Return the network whose logits (B,) tell the expert from the policy; set `penalised`."""
        raise NotImplementedError

    def inputs(self, obs: np.ndarray, actions: np.ndarray, next_obs: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return what the discriminator sees (..., I) of steps, whose observations come normalised.

        Args:
            obs: (..., O), before the step.
            actions: (..., A) or, of a finite set, (...).
            next_obs: (..., O), after it.
            ends: (...), the episode ended with it by its own rules.
        """
        raise NotImplementedError

    def seen(self, rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs (T, N, I) of a rollout's steps, and which of them there are (T, N)."""
        obs = self.observations(rollout.obs)
        return self.inputs(obs[:-1], rollout.actions, obs[1:], rollout.terminated), rollout.valid

    def value_of_end(self) -> float:
        """Return the rewards to come, discounted, after an episode that ended by its own rules."""
        return 0.0

    def update(self, rollout: Rollout, progress: float, *, value_of_end: float = 0.0) -> dict[str, float]:
        """Learn from one rollout, whose own rewards are not looked at; `progress` goes from 0 to 1 over the run.

        Raises:
            NonFiniteError: where a loss, gradient or parameter is no longer finite, naming it.
        """
        inputs, seen = self.seen(rollout)
        told, learned = dict.fromkeys(("d_loss", "d_expert", "d_policy", "d_penalty"), float("nan")), None
        if self.iterations % self.config.g_steps == 0:
            told, learned = self._learn_to_tell(inputs[seen], rollout.valid.size)
        self.iterations += 1
        rewards = np.where(rollout.valid, self.reward_of(self.scores(inputs, rollout.valid)), 0.0).astype(np.float32)
        value_of_end = self.value_of_end()
        if learned is not None:  # only now: the rewards are of the function that has learned
            self.discriminator.learn(learned, self.comm)
        with_rewards = dataclasses.replace(rollout, rewards=rewards)
        metrics = super().update(with_rewards, progress, value_of_end=value_of_end)
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
            gradient = torch.func.grad(lambda x: logits_of(x).sum())(where)[:, : self.penalised]  # (B, ≤ I)
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
        """Return what PPO's worker has, and the choice of the expert's steps."""
        return super().worker_state() | {"discriminator": self.d_rng.bit_generator.state}

    def load_worker_state(self, state: dict[str, Any]) -> None:
        """Take over a worker's state."""
        super().load_worker_state(state)
        self.d_rng.bit_generator.state = state["discriminator"]

    def layers(self, inputs: int, rng: torch.Generator) -> discriminators.Scalar:
        """Return a network of one output, with the discriminator's hidden layers."""
        more = {"batch_norm": self.config.batch_norm_all or self.config.d_batch_norm}
        stack = make_perception(self.config, self.stack, inputs, rng, **more)
        return discriminators.Scalar(stack, rng, self.config.d_spectral_norm)

    def as_inputs(self, actions: np.ndarray) -> np.ndarray:
        """Return actions (..., A) as networks see them: those of a finite set as marks.

        Others are clipped as the environment clips them: the expert's are, and must not be told by that.
        """
        if self.space.shape:
            return np.clip(actions, self.space.low, self.space.high)
        return np.eye(int(self.space.n))[actions]

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Return the discriminator's logits (...) for what it sees (..., I)."""
        with torch.no_grad():
            return np.asarray(self.discriminator(self.tensor(inputs)).cpu().numpy())

    def scores(self, inputs: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Return the logits (T, N) by which a rollout's steps are rewarded; `valid` (T, N), those there are."""
        return self.logits(inputs)

    def expert_inputs(self, count: int) -> np.ndarray:
        """Return what the discriminator sees (count, I) of steps of the expert, drawn at random."""
        rng, size = self.d_rng, self.expert.obs.shape[1]
        if self.config.d_control == "none":
            obs, next_obs = rng.standard_normal((2, count, size), np.float32)
            shape = self.space.shape
            actions = rng.standard_normal((count, *shape)) if shape else rng.integers(self.space.n, size=count)
            return self.inputs(obs, actions, next_obs, np.zeros(count, bool))
        chosen = rng.integers(len(self.expert), size=count)
        obs, next_obs = (self.observations(of[chosen]) for of in (self.expert.obs, self.expert.next_obs))
        return self.inputs(obs, self.expert.actions[chosen], next_obs, self.expert.terminated[chosen])

    def _learn_to_tell(self, policy: np.ndarray, count: int) -> tuple[dict[str, float], torch.Tensor]:
        """Let the discriminator learn from steps of the policy (K, I) and as many of the expert.

        Every worker makes as many minibatches, of `count` steps in a pass, however many of its rows are dead.

        Returns:
            metrics, and what the last pass was over.
        """
        config, rng = self.config, self.d_rng
        for _ in range(config.d_steps):
            self.discriminator.refresh()
            chosen = self.expert_inputs(count)
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

    def _clone(self, observation_size: int, setting: Setting) -> None:
        """Begin with most probable actions, and moments of observations, that are cloned from the demonstrations."""
        own = {each.name: getattr(self.config, each.name) for each in dataclasses.fields(PolicyConfig)}
        cloning = BCConfig(**own | {"epochs": 1, "lr_schedule": "constant"}, bc_validation=0.0)
        plain = Setting(setting.comm, seed=setting.seed, demos=setting.demos, imitation=setting.imitation)
        cloner = BCAgent(cloning, observation_size, self.space, plain)
        for _ in range(self.config.warm_start):
            cloner.clone(0.0)
        learned = cloner.network.state_dict()
        learned.pop("head.log_std", None)  # an expert without noise would leave nothing to explore with
        self.network.load_state_dict(learned, strict=False)  # in place; the value function is not cloned
        self.actor.refresh()
        self.observations.load_state_dict(cloner.observations.state_dict())
