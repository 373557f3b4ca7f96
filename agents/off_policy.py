"""The base class of agents that learn from a replay buffer: two critics, a policy and target networks."""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from milozero.agents.base import AgentContext
from milozero.agents.demo_buffer import make_demo_buffer, shuffle_features
from milozero.agents.learning.flat_parameters import Params
from milozero.agents.learning.optimizer import STEPS_PER_CALL, Batch, Delay, Optimizer, PackedBatch
from milozero.agents.nn.critics import Critics
from milozero.agents.nn.mlp import MLP, load_if_equal_shapes
from milozero.agents.off_policy_config import OffPolicyConfig
from milozero.agents.policy import PolicyAgent
from milozero.agents.replay_buffer import ReplayBuffer, Steps, Transitions
from milozero.agents.rollout import Rollout
from milozero.helpers.errors import UserError
from milozero.helpers.seeding import Purpose, make_rng

NUM_CRITICS = 2
MAX_SAMPLED = 64  # updates whose batches are in memory at once
ADAM_EPSILON = 1e-8  # PyTorch's default, which published off-policy agents use


class OffPolicyNetwork(nn.Module):
    """Critics, then the policy, so that their parameters are ranges of one vector; algorithms add their own last."""

    def __init__(self, critics: Critics, policy: MLP, head: nn.Module) -> None:
        super().__init__()
        self.critics = critics
        self.policy = policy
        self.head = head


def select(params: Params, part: str) -> Params:
    """Return the parameters of a part of a network, e.g. ``critics``, by their names in that part."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}


def join_batches(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the rows of `count` batches, each with its share of `first` before its share of `second`."""
    parts = [array.reshape(count, -1, *array.shape[1:]) for array in (first, second)]
    return np.concatenate(parts, axis=1).reshape(-1, *first.shape[1:])


class OffPolicyAgent(PolicyAgent):
    """A policy and two critics, trained on a replay buffer.

    One optimizer trains everything: the loss is a sum of losses, each with a gradient for its own network only. Every
    `policy_delay`-th update minimizes `loss`; the others `critic_loss`, which only trains the critics.

    Raises:
        UserError: if the hyper-parameters do not fit the action space, or the buffer is too small.
    """

    NOISES_PER_STEP: ClassVar[int] = 1  # vectors of action noise that the loss needs for each sampled step

    config: OffPolicyConfig
    network: Any
    replay_buffer: ReplayBuffer
    demo_buffer: ReplayBuffer  # the expert's steps; only with `expert_mix`
    targets: torch.Tensor  # parameters of the target networks: the first ones of the network's vector

    def __init__(self, config: Any, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        capacity = config.buffer_size // context.comm.size
        if capacity < config.train_freq:
            raise UserError(
                f"--buffer_size={config.buffer_size} is too small: each worker needs at least "
                f"--train_freq={config.train_freq} steps"
            )
        self.replay_buffer = ReplayBuffer(capacity, context.num_envs, observation_size, action_space.shape[0])
        self.steps = 0  # of all workers since the beginning of the run
        self._updates_due = 0.0  # updates that the steps so far allow but that were not made yet
        delay = config.policy_delay
        per_round = config.train_freq * context.comm.size * config.updates_per_step
        rounds = min(max(STEPS_PER_CALL // delay, 1), max(int(per_round / delay), 1))
        self._chunk = delay * rounds  # updates per call of compiled code
        self.ablation = getattr(config, "d_ablation", "off")  # of the expert's steps
        self.num_expert_steps = round(config.expert_mix * config.batch_size)  # in each batch
        if context.demos and config.expert_mix:
            rng = make_rng(context.seed, Purpose.DEMONSTRATIONS)  # the same on every worker
            demos = shuffle_features(context.demos, rng) if self.ablation == "shuffled" else context.demos
            self.demo_buffer = make_demo_buffer(demos, context.imitation.demo_subsampling, rng)

    def make_network(self, observation_size: int, action_space: Any, rng: torch.Generator) -> OffPolicyNetwork:
        """Return critics and policy."""
        config, size = self.config, action_space.shape[0]
        critics = Critics(
            NUM_CRITICS,
            config.q_perception_stack,
            observation_size + size,
            rng,
            activation=config.activation,
            layer_norm=config.q_layer_norm or config.layer_norm,
        )
        policy = self.make_mlp(config.p_perception_stack, observation_size, rng)
        return OffPolicyNetwork(critics, policy, self.make_head(policy.outputs, size, rng))

    def make_head(self, inputs: int, size: int, rng: torch.Generator) -> nn.Module:
        """Return the last layer of the policy, which determines how actions are sampled."""
        raise NotImplementedError

    def is_target(self, parameter: str) -> bool:
        """Return whether a parameter of the network has a target; those that do come first."""
        return parameter.startswith("critics.")

    def make_optimizer(self, *, compile: bool) -> Optimizer:
        """Return the optimizer, and make the target networks."""
        num_critic_params = sum(parameter.numel() for parameter in self.network.critics.parameters())
        num_targets = sum(p.numel() for name, p in self.network.named_parameters() if self.is_target(name))
        optimizer = Optimizer(
            self.network,
            self.loss,
            self.initial_lr,
            clip_norm=self.config.clip_norm,
            comm=self.comm,
            compile=compile,
            epsilon=ADAM_EPSILON,
            delay=Delay(num_critic_params, self.config.policy_delay, self.critic_loss),
            after_step=self.update_targets,
        )
        self.targets = optimizer.params.vector[:num_targets].clone()
        optimizer.changed_after_step = [self.targets]
        return optimizer

    @property
    def target_params(self) -> Params:
        """The parameters of the target networks by name."""
        return self.optimizer.params.unflatten(self.targets)

    def initial_lr(self, parameter: str) -> float:
        """Return the learning rate of a parameter of the network at the start of a run."""
        return self.config.q_lr if parameter.startswith("critics.") else self.config.p_lr

    def update_targets(self, full: bool) -> None:
        """Move the target networks after an update: θ' ← θ' + τ (θ − θ'); `full` if it trained the policy."""
        self.targets.lerp_(self.optimizer.params.vector[: len(self.targets)], self.config.tau)

    def critic_loss(self, params: Params, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of the critics and its metrics, for a batch of `_sample`, fields (B, ...)."""
        # ½ E[(Q(s, a) − (r + γⁿ V(s')))²], summed over the critics (Fujimoto et al. 2018, alg. 1)
        with torch.no_grad():
            targets = batch["rewards"] + batch["discounts"] * self.next_values(params, batch)  # (B,)
        q = functional_call(self.network.critics, select(params, "critics"), (batch["obs"], batch["actions"]))
        errors = q - targets  # (2, B)
        loss = 0.5 * (errors**2).mean(1).sum()
        return loss, {"q_loss": loss, "td_error": errors[0].abs().mean(), "q_mean": q[0].mean()}

    def next_values(self, params: Params, batch: Batch) -> torch.Tensor:
        """Return the value (B,) of the next observations, by the target critics."""
        raise NotImplementedError

    def target_q(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the lower value (B,) of the two target critics."""
        return functional_call(self.network.critics, select(self.target_params, "critics"), (obs, actions)).amin(0)

    def policy_q(self, params: Params, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the values (2, B) of the policy's actions, without a gradient for the critics' parameters."""
        fixed = {name: value.detach() for name, value in select(params, "critics").items()}
        return functional_call(self.network.critics, fixed, (obs, actions))

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return random numbers (steps, A) for sampling the actions of one environment."""
        if self._acts_randomly:
            return rng.uniform(-1.0, 1.0, (steps, self.network.head.size)).astype(np.float32)
        return super().sample_noise(rng, steps)

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return one sampled action for each observation (N, O); at first, uniformly distributed."""
        return noise if self._acts_randomly else super().sample_actions(obs, noise)

    @property
    def _acts_randomly(self) -> bool:
        """Whether actions are still uniformly distributed, which a policy of ``--init_from`` does not need."""
        return self.steps < self.config.learning_starts and not self.config.init_from

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """Store a rollout, then learn from random steps of the replay buffer; return the metrics (collective).

        Args:
            rollout: the latest steps of this worker.
            progress: completed fraction of the run, from 0 to 1.

        Raises:
            NonFiniteError: if a loss, gradient or parameter is NaN or infinite; the message names it.
        """
        config = self.config
        learning_rate = self.set_schedule(progress)
        self.replay_buffer.add(Steps(*(getattr(rollout, name) for name in Steps._fields)))
        self.obs_normalizer.update(rollout.obs[:-1][rollout.mask], self.comm)
        new_steps = rollout.rewards.size * self.comm.size
        self.steps += new_steps
        # Of all workers: after a change of their number, they have different numbers of steps.
        own = np.array([self.replay_buffer.size, self.replay_buffer.can_sample])
        buffer_size, num_ready = self.comm.sum_(own)
        metrics = dict.fromkeys(config.METRICS, math.nan)
        metrics |= {"learning_rate": learning_rate, "buffer_size": float(buffer_size)}
        enough = buffer_size >= min(config.learning_starts, self.replay_buffer.capacity * self.comm.size)
        if not enough or num_ready < self.comm.size:
            return metrics
        self._updates_due += new_steps * config.updates_per_step
        count = int(self._updates_due) // self._chunk * self._chunk
        if not count:
            return metrics
        self._updates_due -= count
        start = time.perf_counter()
        metrics |= self.prepare_updates(count)
        largest = max(MAX_SAMPLED // self._chunk, 1) * self._chunk
        for first in range(0, count, largest):
            number = min(largest, count - first)
            self.optimizer.run_steps(self._sample(number), number, self._chunk)
        metrics |= self.optimizer.pop_metrics()
        metrics["updates_per_second"] = count / (time.perf_counter() - start)
        self.actor.refresh()
        return metrics

    def prepare_updates(self, count: int) -> dict[str, float]:
        """Train what the next `count` updates need, e.g. a reward; return its metrics (collective)."""
        return {}

    def _sample(self, count: int) -> PackedBatch:
        """Return the batches of `count` updates, and the noise that their losses need, fields (count * B, ...).

        The last `num_expert_steps` rows of each batch are the expert's.
        """
        size, num_expert = self.config.batch_size, self.num_expert_steps
        steps = self.draw(count * (size - num_expert))
        if num_expert:
            pairs = zip(steps, self.draw_expert(count * num_expert), strict=True)
            steps = Transitions(*(join_batches(count, own, expert) for own, expert in pairs))
        noise = self.rng.standard_normal((count * size, self.NOISES_PER_STEP * self.network.head.size), np.float32)
        fields = {**steps._asdict(), "noise": noise}
        return PackedBatch({name: self.to_tensor(field) for name, field in fields.items()})

    def draw(self, size: int) -> Transitions:
        """Return random transitions of this worker's environments, with normalized observations."""
        return self.normalize(self.replay_buffer.sample(size, self.rng, self.config.gamma, self.config.n_step))

    def draw_expert(self, size: int) -> Transitions:
        """Return random transitions of the expert, with normalized observations; noise if ``d_ablation=none``."""
        steps = self.normalize(self.demo_buffer.sample(size, self.rng, self.config.gamma, self.config.n_step))
        if self.ablation != "none":
            return steps
        obs, next_obs = self.rng.standard_normal((2, *steps.obs.shape), np.float32)
        actions = self.rng.standard_normal(steps.actions.shape, np.float32).clip(-1.0, 1.0)
        discounts = np.full(size, self.config.gamma, np.float32)  # terminations would reveal the expert
        return Transitions(obs, actions, steps.rewards, next_obs, discounts)

    def normalize(self, steps: Transitions) -> Transitions:
        """Return transitions with normalized observations."""
        return steps._replace(obs=self.obs_normalizer(steps.obs), next_obs=self.obs_normalizer(steps.next_obs))

    @property
    def reward_source(self) -> tuple[Any, ...]:
        """What determines the rewards, by default the environment. Critics fit only an agent with an equal source."""
        return ()

    def init_from(self, source: PolicyAgent) -> dict[str, bool]:
        """Copy what fits: policy, normalizer and critics. The targets start equal to the networks."""
        copied = super().init_from(source) | {"critics": False}
        if isinstance(source, OffPolicyAgent) and self.reward_source == source.reward_source:
            copied["critics"] = load_if_equal_shapes(self.network, source.network, "critics.")
        self.targets.copy_(self.optimizer.params.vector[: len(self.targets)])
        return copied

    def state_dict(self) -> dict[str, Any]:
        """Return the networks, Adam's moments, the normalizer, the target networks and the number of steps."""
        progress = {"steps": self.steps, "updates_due": self._updates_due}
        return super().state_dict() | {"targets": self.targets.cpu().clone(), "progress": progress}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state)
        self.targets.copy_(state["targets"])
        self.steps, self._updates_due = int(state["progress"]["steps"]), float(state["progress"]["updates_due"])
