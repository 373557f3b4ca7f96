"""Soft actor-critic (SAC, Haarnoja et al. 2018a), with an adaptive temperature (Haarnoja et al. 2018b)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from milozero.agents.learning.flat_parameters import Params
from milozero.agents.learning.optimizer import Batch
from milozero.agents.nn.squashed import SquashedGaussian
from milozero.agents.off_policy import OffPolicyAgent, OffPolicyNetwork, select
from milozero.agents.sac_config import SACConfig


class SACAgent(OffPolicyAgent):
    """A squashed Gaussian policy that maximizes the return plus α times its entropy."""

    Config = SACConfig
    NOISES_PER_STEP = 2  # for the next actions, which the critics learn from, and for the policy's loss
    config: SACConfig

    def make_network(self, observation_size: int, action_space: Any, rng: torch.Generator) -> OffPolicyNetwork:
        """Return critics, policy and temperature."""
        network = super().make_network(observation_size, action_space, rng)
        log_alpha = math.log(1.0 if self.config.ent_coef is None else self.config.ent_coef)
        network.temperature = nn.ParameterDict({"log_alpha": nn.Parameter(torch.tensor(log_alpha))})
        target = self.config.target_entropy
        self.target_entropy = -float(action_space.shape[0]) if target is None else target
        return network

    def make_head(self, inputs: int, size: int, rng: torch.Generator) -> SquashedGaussian:
        """Return the last layer of the policy."""
        return SquashedGaussian(inputs, size, rng)

    def initial_lr(self, parameter: str) -> float:
        """Return the learning rate of a parameter of the network at the start of a run."""
        if parameter == "temperature.log_alpha":
            return self.config.ent_lr if self.config.ent_coef is None else 0.0
        return super().initial_lr(parameter)

    def act(self, params: Params, obs: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return actions (B, A) sampled with standard normal `noise` (B, A), and their log-probabilities (B,)."""
        features = functional_call(self.network.policy, select(params, "policy"), (obs,))
        return functional_call(self.network.head, select(params, "head"), (features, noise))

    def next_values(self, params: Params, batch: Batch) -> torch.Tensor:
        """Return the soft values (B,): min Q'(s', a') − α log π(a'|s'), a' ~ π (Haarnoja et al. 2018b, eq. 3)."""
        if "temperature.log_alpha" not in params:  # a step that trains only the critics
            params = self.optimizer.params.unflatten(self.optimizer.params.vector)
        obs = batch["next_obs"]
        actions, log_probs = self.act(params, obs, batch["noise"].chunk(2, dim=1)[0])
        return self.target_q(obs, actions) - params["temperature.log_alpha"].exp() * log_probs

    def loss(self, params: Params, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the losses of critics, policy and temperature as one sum, and the metrics of a batch."""
        critic_loss, metrics = self.critic_loss(params, batch)
        log_alpha = params["temperature.log_alpha"]
        alpha = log_alpha.detach().exp()

        # Policy: E[α log π(a|s) − min Q(s, a)], a ~ π (Haarnoja et al. 2018b, eq. 7)
        actions, log_probs = self.act(params, batch["obs"], batch["noise"].chunk(2, dim=1)[1])
        policy_loss = (alpha * log_probs - self.policy_q(params, batch["obs"], actions).amin(0)).mean()

        more = {"policy_loss": policy_loss, "entropy": -log_probs.mean(), "temperature": alpha}
        if self.config.ent_coef is not None:
            return critic_loss + policy_loss, metrics | more
        # Temperature: −E[log α (log π(a|s) + target entropy)] (eq. 18, with log α for α, as in its authors' code)
        alpha_loss = -(log_alpha * (log_probs.detach() + self.target_entropy)).mean()
        return critic_loss + policy_loss + alpha_loss, metrics | more

    def init_from(self, source: Any) -> dict[str, bool]:
        """Copy what fits; the temperature, unless `ent_coef` sets it."""
        copied = super().init_from(source)
        if self.config.ent_coef is None:
            self.network.temperature.load_state_dict(source.network.temperature.state_dict())
            copied["temperature"] = True
        return copied
