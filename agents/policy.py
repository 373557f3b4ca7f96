"""What agents with a policy network have in common: its hyper-parameters, and how it acts."""

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
    """Acts by a policy network on normalized observations, and learns its parameters by one optimizer."""

    network: Policy
    actor: Actor
    optimizer: Optimizer
    observations: ObservationNormalizer
    device: torch.device

    def noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return the random numbers (steps, A) that one environment's actions need."""
        return self.actor.head.noise(rng, steps)

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return one sampled action for each observation (N, O)."""
        return self.actor.sample(self.observations(obs), noise)

    def predict(self, obs: np.ndarray) -> np.ndarray:
        """Return the most probable action for one observation (O,)."""
        return self.predict_batch(obs[None])[0]

    def predict_batch(self, obs: np.ndarray) -> np.ndarray:
        """Return the most probable action for each observation (N, O)."""
        return self.actor.mode(self.observations(obs))

    def parameter_hash(self) -> int:
        """Return a checksum of all parameters."""
        return self.optimizer.params.hash()

    def state_dict(self) -> dict[str, Any]:
        """Return networks, Adam's moments and the normalizer."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "buffers": {name: buffer.cpu().clone() for name, buffer in self.network.named_buffers()},
            "observations": self.observations.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        self.optimizer.load_state_dict(state["optimizer"])
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state["buffers"][name])
        self.actor.refresh()
        self.observations.load_state_dict(state["observations"])

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """Return an array on the agent's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def make_mlp(config: PolicyConfig, stack: str, inputs: int, rng: torch.Generator, **more: Any) -> MLP:
    """Return the hidden layers that `config` describes."""
    return MLP(
        stack,
        inputs,
        rng,
        **{
            "activation": config.activation,
            "layer_norm": config.layer_norm,
            "batch_norm": config.batch_norm_all,
            **more,
        },
    )
