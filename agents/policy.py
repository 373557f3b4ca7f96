"""What agents with a policy network have in common: its hyper-parameters, and how it acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from milozero.agents.normalizer import ObservationNormalizer
from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import param
from milozero.helpers.lazy import lazy_import

if TYPE_CHECKING:
    import torch

    from milozero.agents.learning import optimizer as optimizers
    from milozero.agents.nn import networks
else:  # torch takes more than a second to import, and `main.py -h` reads this file
    torch = lazy_import("torch")
    networks = lazy_import("milozero.agents.nn.networks")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Hyper-parameters of a policy and of how it is learned."""

    FROM_ROLLOUTS: ClassVar[bool] = True  # whether its minibatches are parts of rollouts

    p_perception_stack: str = param("mlp_64", "hidden layers of the policy", check=parse_hidden_sizes)
    activation: str = param("tanh", "activation of hidden layers", choices=("tanh", "relu", "elu"))
    layer_norm: bool = param(False, "layer normalization in every network")
    batch_norm_all: bool = param(False, "batch normalization in every network, moments over all workers")
    log_std_init: float = param(0.0, "first log standard deviation of continuous actions", low=-20, high=2)

    p_lr: float = param(3e-4, "learning rate of the policy (and of shared layers)", low=0)
    lr_schedule: str = param("linear", "learning rates over the run", choices=("linear", "constant"))
    clip_norm: float = param(0.5, "largest gradient norm, 0 for no limit", low=0)
    batch_size: int = param(64, "a worker's share of a minibatch, steps", low=1)
    epochs: int = param(10, "passes over what an iteration learns from", low=1)

    normalize_observations: bool = param(True, "observations to mean 0, deviation 1, by running moments")
    clip_obs: float = param(10.0, "limit of normalized observations", above=0)


class PolicyAgent:
    """Acts by a policy network on normalized observations, and learns its parameters by one optimizer."""

    network: networks.Policy
    actor: networks.Actor
    optimizer: optimizers.Optimizer
    observations: ObservationNormalizer
    device: torch.device

    @staticmethod
    def check_actions(config: Any, action_space: Any) -> None:
        """Refuse hyper-parameters that do not fit the actions.

        Raises:
            UserError: saying why.
        """

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


def make_mlp(config: PolicyConfig, stack: str, inputs: int, rng: torch.Generator, **more: Any) -> networks.MLP:
    """Return the hidden layers that `config` describes."""
    return networks.MLP(
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
