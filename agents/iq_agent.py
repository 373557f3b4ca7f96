"""Inverse soft Q-learning (IQ-Learn, Garg et al. 2021), online, with χ² regularization: SAC with another critic loss.

The critics alone represent the reward, r(s, a) = Q(s, a) − γ V(s'), so there is no discriminator. Like SQIL, IQ-Learn
trains on batches of which a part is the expert's; the environment's reward is not used.
"""

from __future__ import annotations

import torch
from torch.func import functional_call

from milozero.agents.iq_config import IQConfig
from milozero.agents.learning.flat_parameters import Params
from milozero.agents.learning.optimizer import Batch
from milozero.agents.off_policy import select
from milozero.agents.sqil_agent import SQILAgent


class IQAgent(SQILAgent):
    """SAC whose critics imply the reward, which they learn from the expert's steps."""

    Config = IQConfig
    config: IQConfig

    def critic_loss(self, params: Params, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of the critics and its metrics; rewards (B,) are 1 for the expert's steps, otherwise 0."""
        fixed = self.optimizer.params.unflatten(self.optimizer.params.vector)
        critics = select(params, "critics")
        is_expert = batch["rewards"]
        with torch.no_grad():
            next_values = batch["discounts"] * self.next_values(params, batch)  # γ V'(s'), 0 if s' is terminal
            actions, log_probs = self.act(fixed, batch["obs"], batch["noise"].chunk(2, dim=1)[1])
        q = functional_call(self.network.critics, critics, (batch["obs"], batch["actions"]))  # (2, B)
        values = functional_call(self.network.critics, critics, (batch["obs"], actions)).amin(0)
        values = values - fixed["temperature.log_alpha"].exp() * log_probs  # V(s) = E[min Q(s, a) − α log π(a|s)]

        # −E_expert[r] + E[V(s) − γ V'(s')] + E[r²] / (4 α), with r = Q(s, a) − γ V'(s') (eq. 9 and 10)
        rewards = q - next_values  # (2, B)
        expert = (is_expert * rewards).sum(1) / is_expert.sum()  # (2,)
        policy = ((1.0 - is_expert) * rewards).sum(1) / (1.0 - is_expert).sum()
        penalty = (rewards**2).mean() / (4.0 * self.config.iq_alpha)
        loss = (values - next_values).mean() + penalty - expert.mean()
        return loss, {
            "q_loss": loss,
            "q_mean": q[0].mean(),
            "iq_reward_expert": expert.mean(),
            "iq_reward_policy": policy.mean(),
        }
