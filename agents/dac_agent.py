"""Discriminator-actor-critic (DAC, Kostrikov et al. 2019): TD3 or SAC on the reward of a discriminator.

The discriminator is GAIL's, but distinguishes the expert's steps from those of the replay buffer, i.e. of all earlier
policies. Rewards are computed when steps are sampled, by the current discriminator. The environment's reward is
logged, but not learned from.

A terminal state leads to an absorbing state (sec. 4.2) with the reward r_a, whose value is r_a / (1 − γ). The paper
stores steps in that state, from which the critics learn its value; here, the critics learn from the value itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from milozero.agents.base import AgentContext
from milozero.agents.dac_config import DACConfig
from milozero.agents.discriminator import DiscriminatorAgent
from milozero.agents.learning.optimizer import STEPS_PER_CALL
from milozero.agents.off_policy import MAX_SAMPLED, OffPolicyAgent
from milozero.agents.replay_buffer import Transitions
from milozero.agents.sac_agent import SACAgent
from milozero.agents.td3_agent import TD3Agent


class DACAgent(DiscriminatorAgent, OffPolicyAgent):
    """A policy and two critics on the reward of a discriminator, trained by the algorithm `dac_agent`."""

    Config = DACConfig
    config: Any  # a `DACConfig`, which has the settings of both algorithms

    def __init__(self, config: DACConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        self._d_chunk = max(1, min(STEPS_PER_CALL, int(self._chunk * config.d_update_ratio)))
        self._d_updates_due = 0.0
        self._reward_sum = np.zeros(2)  # of the rewards that were sampled in this update, and their number

    def update(self, rollout: Any, progress: float) -> dict[str, float]:
        """Store a rollout, update the discriminator and learn from random steps; return the metrics (collective)."""
        self._reward_sum[:] = 0.0
        metrics = super().update(rollout, progress)
        total, count = self.comm.sum_(self._reward_sum.copy())
        return metrics | {"d_reward": total / count if count else float("nan")}

    def prepare_updates(self, count: int) -> dict[str, float]:
        """Update the discriminator for the next `count` updates of the critics; return its metrics (collective)."""
        self._d_updates_due += count * self.config.d_update_ratio
        number = int(self._d_updates_due) // self._d_chunk * self._d_chunk
        self._d_updates_due -= number
        largest = MAX_SAMPLED // self._d_chunk * self._d_chunk
        for first in range(0, number, largest):
            steps = min(largest, number - first)
            self.discriminator.refresh()
            policy, expert = (
                sample(steps * self.config.d_batch_size) for sample in (self.sample_policy, self.sample_expert)
            )
            self.d_optimizer.run_steps(self.make_d_batch(expert, policy), steps, self._d_chunk)
        return self.pop_d_metrics() if number else {}

    def sample_policy(self, count: int) -> np.ndarray:
        """Return the features (count, I) of random steps of the replay buffer.

        With `d_absorbing`, some are absorbing: as for the expert, one per terminated episode.
        """
        steps = self.normalize(self.replay_buffer.sample(count, self.d_rng, self.config.gamma))
        terminated = steps.discounts == 0
        features = self.features(steps.obs, steps.actions, steps.next_obs, terminated)
        if self.config.d_absorbing:
            share = terminated.sum() / (count + terminated.sum())
            features[self.d_rng.random(count) < share] = self.absorbing_features()
        return features

    def draw(self, size: int) -> Transitions:
        """Return random transitions of this worker's environments, with the discriminator's rewards."""
        return self.relabel(super().draw(size))

    def draw_expert(self, size: int) -> Transitions:
        """Return random transitions of the expert, with the discriminator's rewards."""
        return self.relabel(super().draw_expert(size))

    def relabel(self, steps: Transitions) -> Transitions:
        """Return single steps with the discriminator's rewards, and with the absorbing state's value at the end."""
        terminated = steps.discounts == 0
        rewards = self.logits_to_reward(
            self.logits(self.features(steps.obs, steps.actions, steps.next_obs, terminated))
        )
        self._reward_sum += rewards.sum(), len(rewards)
        rewards = rewards + terminated * (self.config.gamma * self.terminal_value())  # r + γ r_a / (1 − γ)
        return steps._replace(rewards=rewards.astype(np.float32))

    def state_dict(self) -> dict[str, Any]:
        """Return the networks, Adam's moments, the normalizer, the target networks and the number of steps."""
        return super().state_dict() | {"d_updates_due": self._d_updates_due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state)
        self._d_updates_due = float(state["d_updates_due"])


def make_dac_agent(config: DACConfig, *args: Any, **kwargs: Any) -> DACAgent:
    """Return an agent whose policy is trained by the algorithm that `dac_agent` names."""
    cls = DACWithTD3 if config.dac_agent == "td3" else DACWithSAC
    return cls(config, *args, **kwargs)


class DACWithTD3(DACAgent, TD3Agent):
    """DAC with a deterministic policy."""


class DACWithSAC(DACAgent, SACAgent):
    """DAC with a squashed Gaussian policy."""
