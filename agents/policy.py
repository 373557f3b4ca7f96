"""The base class of agents with a policy network: it samples and predicts actions, and saves its state."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from milozero.agents.learning.optimizer import Optimizer
from milozero.agents.nn.actor import Actor
from milozero.agents.nn.mlp import MLP
from milozero.agents.nn.policies import Policy
from milozero.agents.normalizer import ObservationNormalizer
from milozero.agents.policy_config import PolicyConfig


class PolicyAgent:
    """An agent with a policy network on normalized observations, trained by one optimizer."""

    network: Policy
    actor: Actor
    optimizer: Optimizer
    obs_normalizer: ObservationNormalizer
    device: torch.device

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return random numbers (steps, A) for sampling the actions of one environment."""
        return self.actor.head.sample_noise(rng, steps)

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return one sampled action for each observation (N, O)."""
        return self.actor.sample(self.obs_normalizer(obs), noise)

    def predict(self, obs: np.ndarray) -> np.ndarray:
        """Return the most probable action for one observation (O,)."""
        return self.predict_batch(obs[None])[0]

    def predict_batch(self, obs: np.ndarray) -> np.ndarray:
        """Return the most probable action for each observation (N, O)."""
        return self.actor.mode(self.obs_normalizer(obs))

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

    def to_tensor(self, array: np.ndarray) -> torch.Tensor:
        """Return an array as a tensor on the agent's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def make_mlp(config: PolicyConfig, stack: str, inputs: int, rng: torch.Generator, **overrides: Any) -> MLP:
    """Return the hidden layers of `stack`, e.g. ``mlp_100``; `overrides` of `MLP` replace those of `config`."""
    return MLP(
        stack,
        inputs,
        rng,
        **{
            "activation": config.activation,
            "layer_norm": config.layer_norm,
            "batch_norm": config.batch_norm_all,
            **overrides,
        },
    )
