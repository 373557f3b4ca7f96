"""Policy and actor-critic networks."""

from __future__ import annotations

import torch
from torch import nn

from milozero.agents.nn.distributions import Categorical, Gaussian
from milozero.agents.nn.mlp import MLP, linear
from milozero.helpers.comm import Comm


class Policy(nn.Module):
    """A distribution of actions for each observation."""

    def __init__(self, policy: MLP, head: Gaussian | Categorical) -> None:
        super().__init__()
        self.policy = policy
        self.head = head

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return log-probability and entropy (B,) and the head's outputs, for observations (B, O) and actions."""
        features = self.policy(obs)
        return *self.head.log_prob(features, actions), self.head.output(features)

    def update_batch_norm(self, obs: torch.Tensor, comm: Comm) -> None:
        """Let every batch normalization follow the observations (K, O) of all workers."""
        self.policy.update_batch_norm(obs, comm)


class ActorCritic(Policy):
    """A policy and a value function, on hidden layers of their own or on shared ones."""

    def __init__(self, policy: MLP, head: Gaussian | Categorical, value: MLP | None, rng: torch.Generator) -> None:
        super().__init__(policy, head)
        self.value = value  # None: the value function stands on the policy's layers
        self.value_head = linear((value or policy).outputs, 1, 1.0, rng)

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return log-probability, entropy and value (B,) for observations (B, O) and actions (B, ...)."""
        features = self.policy(obs)
        log_prob, entropy = self.head.log_prob(features, actions)
        on = features if self.value is None else self.value(obs)
        return log_prob, entropy, self.value_head(on).squeeze(-1)

    def values(self, obs: torch.Tensor) -> torch.Tensor:
        """Return the values (...) of observations (..., O)."""
        on = self.policy if self.value is None else self.value
        return self.value_head(on(obs)).squeeze(-1)

    def update_batch_norm(self, obs: torch.Tensor, comm: Comm) -> None:
        """Let every batch normalization follow the observations (K, O) of all workers."""
        super().update_batch_norm(obs, comm)
        if self.value is not None:
            self.value.update_batch_norm(obs, comm)
