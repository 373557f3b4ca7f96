"""Soft Q imitation learning (SQIL, Reddy et al. 2020): SAC with reward 1 for the expert's steps and 0 for its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from milozero.agents.replay_buffer import Transitions
from milozero.agents.sac_agent import SACAgent
from milozero.agents.sqil_config import SQILConfig


class SQILAgent(SACAgent):
    """A policy that is rewarded for returning to states in which it acts as the expert did."""

    Config = SQILConfig
    config: SQILConfig

    @property
    def reward_source(self) -> tuple[Any, ...]:
        """What determines the rewards: this algorithm and its ablation."""
        return (type(self), self.ablation)

    def draw(self, size: int) -> Transitions:
        """Return random transitions of this worker's environments, with reward 0."""
        return super().draw(size)._replace(rewards=np.zeros(size, np.float32))

    def draw_expert(self, size: int) -> Transitions:
        """Return random transitions of the expert, with reward 1."""
        return super().draw_expert(size)._replace(rewards=np.ones(size, np.float32))
