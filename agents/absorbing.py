"""Absorbing states of adversarial imitation (Kostrikov et al. 2019, sec. 4.2).

A terminal state leads to an absorbing state, which is never left. For each terminated episode, of the expert and of
the policy, the discriminator sees one step in this state, and the policy receives the reward of that step forever. So
the value of termination is learned instead of being 0. A truncated episode has no such step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import Episode


class AbsorbingStates:
    """Selects the steps that are in the absorbing state; none unless `enabled`.

    Args:
        enabled: the setting ``d_absorbing``.
        num_envs: environments of this worker.
        demos: complete episodes of the expert.
    """

    def __init__(self, enabled: bool, num_envs: int, demos: Sequence[Episode]) -> None:
        self.enabled = enabled
        self.last_terminated = np.zeros(num_envs, bool)  # (N,) in the last step of the previous rollout
        ends, steps = sum(demo.terminated for demo in demos), sum(map(len, demos))
        self.expert_share = ends / (steps + ends) if demos else 0.0  # of all steps, before any subsampling

    def find(self, rollout: Rollout) -> np.ndarray:
        """Return which steps (T, N) of a rollout are absorbing: the padding steps after a termination."""
        if not self.enabled:
            return np.zeros_like(rollout.mask)
        after_termination = np.concatenate([self.last_terminated[None], rollout.terminated[:-1]])
        return after_termination & ~rollout.mask

    def advance(self, rollout: Rollout) -> None:
        """Remember which episodes a rollout left terminated, for the next one."""
        self.last_terminated = rollout.terminated[-1].copy()

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return which of `count` sampled steps (count,) are absorbing, as often as in the expert's episodes."""
        return rng.random(count) < self.expert_share if self.enabled else np.zeros(count, bool)
