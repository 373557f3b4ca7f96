"""Twin delayed deep deterministic policy gradient (TD3, Fujimoto et al. 2018)."""

from __future__ import annotations

import torch
from torch.func import functional_call

from milozero.agents.learning.flat_parameters import Params
from milozero.agents.learning.optimizer import Batch
from milozero.agents.nn.deterministic import Deterministic
from milozero.agents.off_policy import OffPolicyAgent, select
from milozero.agents.td3_config import TD3Config


class TD3Agent(OffPolicyAgent):
    """A deterministic policy, which is trained and whose targets move in every `policy_delay`-th update only."""

    Config = TD3Config
    config: TD3Config

    def make_head(self, inputs: int, size: int, rng: torch.Generator) -> Deterministic:
        """Return the last layer of the policy."""
        return Deterministic(inputs, size, self.config.exploration_noise, rng)

    def is_target(self, parameter: str) -> bool:
        """Return True: critics and policy have targets."""
        return True

    def update_targets(self, full: bool) -> None:
        """Move the target networks, if the update trained the policy."""
        if full:
            super().update_targets(full)

    def act(self, params: Params, obs: torch.Tensor) -> torch.Tensor:
        """Return the actions (B, A) of the policy with the parameters `params`."""
        features = functional_call(self.network.policy, select(params, "policy"), (obs,))
        return functional_call(self.network.head, select(params, "head"), (features,))

    def next_values(self, params: Params, batch: Batch) -> torch.Tensor:
        """Return min Q'(s', clip(π'(s') + ε)) (B,), with the clipped noise ε of Fujimoto et al. 2018, eq. 14."""
        config, obs = self.config, batch["next_obs"]
        noise = (config.target_noise * batch["noise"]).clamp(-config.target_noise_clip, config.target_noise_clip)
        return self.target_q(obs, (self.act(self.target_params, obs) + noise).clamp(-1.0, 1.0))

    def loss(self, params: Params, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the losses of critics and policy as one sum, and the metrics of a batch."""
        critic_loss, metrics = self.critic_loss(params, batch)
        # Policy: −E[Q₁(s, π(s))] (Fujimoto et al. 2018, alg. 1)
        policy_loss = -self.policy_q(params, batch["obs"], self.act(params, batch["obs"]))[0].mean()
        return critic_loss + policy_loss, metrics | {"policy_loss": policy_loss}
