"""The base class of agents with a policy network: it samples and predicts actions, and saves its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from milozero.agents.base import AgentContext
from milozero.agents.learning.optimizer import Optimizer
from milozero.agents.nn.mlp import MLP
from milozero.agents.nn.policies import Actor, Gaussian, Policy, make_head
from milozero.agents.normalizer import ObservationNormalizer
from milozero.agents.policy_config import EpochPolicyConfig, PolicyConfig
from milozero.agents.replay_buffer import ReplayBuffer
from milozero.helpers.seeding import Purpose, make_rng, make_seed


class PolicyAgent:
    """An agent with a policy network on normalized observations, trained by one optimizer.

    Raises:
        UserError: if the hyper-parameters do not fit the action space.
    """

    config: PolicyConfig
    network: Any
    replay_buffer: ReplayBuffer | None = None

    def __init__(self, config: Any, observation_size: int, action_space: Any, context: AgentContext) -> None:
        config.check_action_space(action_space)
        self.config = config
        self.comm = context.comm
        self.device = torch.device(context.device)
        rng = torch.Generator().manual_seed(make_seed(context.seed, Purpose.PARAMETERS))
        self.network = self.make_network(observation_size, action_space, rng).to(self.device)
        self.optimizer = self.make_optimizer(compile=context.compile)
        self.actor = Actor(self.network)  # after the optimizer, which moves the parameters into one vector
        frozen = bool(config.init_from) and config.init_freeze_normalizer
        self.obs_normalizer = ObservationNormalizer(
            observation_size, config.clip_obs, config.normalize_observations, frozen=frozen
        )
        self.rng = make_rng(context.seed, Purpose.SHUFFLE, context.comm.rank, context.iteration)

    def make_network(self, observation_size: int, action_space: Any, rng: torch.Generator) -> Any:
        """Return a module with a `policy` (the hidden layers) and a `head` (the action distribution)."""
        raise NotImplementedError

    def make_mlp(self, stack: str, inputs: int, rng: torch.Generator, *, batch_norm: bool = False) -> MLP:
        """Return the hidden layers of `stack`, e.g. ``mlp_100``, on inputs (B, `inputs`)."""
        config = self.config
        return MLP(
            stack, inputs, rng, activation=config.activation, layer_norm=config.layer_norm, batch_norm=batch_norm
        )

    def make_optimizer(self, *, compile: bool) -> Optimizer:
        """Return the optimizer of `network`."""
        clip_norm = self.config.clip_norm
        return Optimizer(
            self.network, self.loss, self.initial_lr, clip_norm=clip_norm, comm=self.comm, compile=compile
        )

    def initial_lr(self, parameter: str) -> float:
        """Return the learning rate of a parameter of the network at the start of a run."""
        return self.config.p_lr

    def set_schedule(self, progress: float) -> float:
        """Set the learning rates for a `progress` from 0 to 1, and return that of the policy."""
        factor = 1.0 - progress if self.config.lr_schedule == "linear" else 1.0
        self.optimizer.set_schedule(factor)
        return self.config.p_lr * factor

    def loss(
        self, params: dict[str, torch.Tensor], batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss and metrics of a minibatch, fields (B, ...)."""
        raise NotImplementedError

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return random numbers (steps, A) for sampling the actions of one environment."""
        return self.actor.head.sample_noise(rng, steps)

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return one sampled action for each observation (N, O)."""
        return self.actor.sample(self.obs_normalizer(obs), noise)

    def predict(self, obs: np.ndarray) -> np.ndarray:
        """Return the most probable action for one observation (O,)."""
        return self.predict_batch(obs[None])[0]

    def sample_action(self, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return an action sampled from the policy for one observation (O,).

        Unlike `sample_actions`, which collects rollouts, this is always the policy's own action.
        """
        return self.actor.sample(self.obs_normalizer(obs[None]), self.actor.head.sample_noise(rng, 1))[0]

    def predict_batch(self, obs: np.ndarray) -> np.ndarray:
        """Return the most probable action for each observation (N, O)."""
        return self.actor.mode(self.obs_normalizer(obs))

    def early_stop(self) -> str:
        """Return why training ends before its budget is exhausted; empty to continue."""
        return ""

    def init_from(self, source: PolicyAgent) -> dict[str, bool]:
        """Copy the networks and normalizers of another agent that fit this one; see `Agent.init_from`.

        Adam's moments stay 0.
        """
        self.network.policy.load_state_dict(source.network.policy.state_dict())
        self.network.head.load_state_dict(source.network.head.state_dict())
        self.actor.refresh()
        self.obs_normalizer.load_state_dict(source.obs_normalizer.state_dict())
        return {"policy": True} | dict.fromkeys(["observation normalizer"] * self.obs_normalizer.enabled, True)

    def parameter_hash(self) -> int:
        """Return a checksum of all parameters."""
        return self.optimizer.params.hash()

    def state_dict(self) -> dict[str, Any]:
        """Return the networks, Adam's moments and the observation normalizer."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "buffers": {name: buffer.cpu().clone() for name, buffer in self.network.named_buffers()},
            "observations": self.obs_normalizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state["buffers"][name])
        self.actor.refresh()
        self.obs_normalizer.load_state_dict(state["observations"])

    def rank_state_dict(self) -> dict[str, Any]:
        """Return this worker's random generator."""
        return {"shuffle": self.rng.bit_generator.state}

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `rank_state_dict` returned."""
        self.rng.bit_generator.state = state["shuffle"]

    def to_tensor(self, array: np.ndarray) -> torch.Tensor:
        """Return an array as a tensor on the agent's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


class EpochPolicyAgent(PolicyAgent):
    """An agent with a Gaussian or categorical policy, trained in epochs over a batch of steps."""

    config: EpochPolicyConfig
    network: Policy

    def make_network(self, observation_size: int, action_space: Any, rng: torch.Generator) -> Policy:
        """Return the policy network."""
        policy = self.make_mlp(self.config.p_perception_stack, observation_size, rng)
        return Policy(policy, make_head(action_space, policy.outputs, self.config.log_std_init, rng))

    def make_mlp(self, stack: str, inputs: int, rng: torch.Generator, *, batch_norm: bool = False) -> MLP:
        """Return the hidden layers of `stack`, e.g. ``mlp_100``; `batch_norm` adds it regardless of the settings."""
        return super().make_mlp(stack, inputs, rng, batch_norm=batch_norm or self.config.batch_norm_all)

    def init_from(self, source: PolicyAgent) -> dict[str, bool]:
        """Copy what fits; if `init_log_std` is set, it replaces the log standard deviation of actions."""
        copied = super().init_from(source)
        head = self.network.head
        if not isinstance(head, Gaussian):
            return copied
        if self.config.init_log_std is not None:
            head.log_std.fill_(self.config.init_log_std)
            self.actor.refresh()
        std = head.log_std.exp()
        del copied["policy"]
        return {f"policy (standard deviation {std.min():.2g} to {std.max():.2g})": True} | copied
