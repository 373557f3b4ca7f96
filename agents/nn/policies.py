"""Policy and actor-critic networks."""

from __future__ import annotations

import torch
from torch import nn

from milozero.agents.nn.distributions import Categorical, Gaussian
from milozero.agents.nn.mlp import MLP, linear
from milozero.helpers.comm import Comm


class Policy(nn.Module):
    """A policy π(a|s): hidden layers and an action distribution."""

    def __init__(self, policy: MLP, head: Gaussian | Categorical) -> None:
        super().__init__()
        self.policy = policy
        self.head = head

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return log π(a|s), entropy (B,) and the head's outputs for observations (B, O) and actions (B, ...)."""
        features = self.policy(obs)
        return *self.head.log_prob(features, actions), self.head.output(features)

    def update_batch_norm(self, obs: torch.Tensor, comm: Comm) -> None:
        """Update batch normalization with the observations (K, O) of all workers (collective)."""
        self.policy.update_batch_norm(obs, comm)


class ActorCritic(Policy):
    """A policy π(a|s) and a value function V(s), with separate hidden layers, or shared ones if `value` is None."""

    def __init__(self, policy: MLP, head: Gaussian | Categorical, value: MLP | None, rng: torch.Generator) -> None:
        super().__init__(policy, head)
        self.value = value
        self.value_head = linear((value or policy).outputs, 1, 1.0, rng)

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return log π(a|s), entropy and V(s) (B,) for observations (B, O) and actions (B, ...)."""
        features = self.policy(obs)
        log_prob, entropy = self.head.log_prob(features, actions)
        value_features = features if self.value is None else self.value(obs)
        return log_prob, entropy, self.value_head(value_features).squeeze(-1)

    def predict_values(self, obs: torch.Tensor) -> torch.Tensor:
        """Return V(s) (...) for observations (..., O)."""
        stack = self.policy if self.value is None else self.value
        return self.value_head(stack(obs)).squeeze(-1)

    def update_batch_norm(self, obs: torch.Tensor, comm: Comm) -> None:
        """Update batch normalization with the observations (K, O) of all workers (collective)."""
        super().update_batch_norm(obs, comm)
        if self.value is not None:
            self.value.update_batch_norm(obs, comm)
