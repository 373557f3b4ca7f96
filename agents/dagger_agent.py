"""DAgger (Ross et al. 2011): behavioral cloning on the observations that the policy itself visits.

An iteration collects a rollout, queries the expert for its action on every observation, adds these labels to the
buffer, and makes `epochs` passes of supervised learning over samples of the buffer. During the first iterations, the
expert chooses some of the actions. The expert is a checkpoint of any algorithm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from milozero.agents.base import AgentContext
from milozero.agents.bc_agent import BCBase
from milozero.agents.dagger_config import DAggerConfig
from milozero.agents.learning.optimizer import PackedBatch
from milozero.agents.rollout import Rollout


class DAggerAgent(BCBase):
    """A policy trained on the expert's actions for its own observations. Each worker has its own buffer."""

    Config = DAggerConfig
    config: DAggerConfig

    def __init__(self, config: DAggerConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        self.action_space = action_space
        self.expert = context.expert
        self.iterations = context.iteration
        capacity, dtype = config.dagger_buffer_size, np.float32 if action_space.shape else np.int64
        self.obs = np.zeros((capacity, observation_size), np.float32)  # the buffer; `buffer_len` rows are filled
        self.expert_actions = np.zeros((capacity, *action_space.shape), dtype)
        self.num_queries = 0  # observations labeled so far, including those no longer in the buffer

    @property
    def buffer_len(self) -> int:
        """Number of labeled observations in the buffer."""
        return min(self.num_queries, len(self.obs))

    @property
    def expert_share(self) -> float:
        """β_i (Ross et al. 2011): the probability that the expert chooses the action in the current rollout."""
        iters = self.config.dagger_beta_iters
        return max(0.0, 1.0 - self.iterations / iters) if iters else 0.0

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return uniform random numbers (steps, 1), which decide between policy and expert."""
        return rng.random((steps, 1))

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the most probable action, of the policy or the expert, for each observation (N, O)."""
        actions, by_expert = self.predict_batch(obs), noise[:, 0] < self.expert_share
        if by_expert.any():
            actions[by_expert] = self.query_expert(obs[by_expert])
        return actions

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """Label the rollout with the expert's actions, and learn from the buffer; return the metrics."""
        config, expert_share, learning_rate = self.config, self.expert_share, self.set_schedule(progress)
        obs = rollout.obs[:-1][rollout.mask]  # (K, O)
        expert_actions = self.query_expert(obs)
        distance = self._distance(self.predict_batch(obs), expert_actions)
        self._add_to_buffer(obs, expert_actions)
        self.obs_normalizer.update(obs, self.comm)
        self.iterations += 1
        for _ in range(config.epochs):  # T * N samples each, so that all workers take the same number of steps
            rows = self.rng.integers(self.buffer_len, size=rollout.mask.size)
            train_obs = self.to_tensor(self.obs_normalizer(self.obs[rows]))
            batch = {"obs": train_obs, "actions": self.to_tensor(self.expert_actions[rows])}
            self.optimizer.run_epoch(PackedBatch(batch), config.batch_size, self.rng)
        metrics = self.optimizer.pop_metrics()
        self.network.update_batch_norm(train_obs, self.comm)
        self.actor.refresh()
        totals = self.comm.sum_(np.array([distance * len(obs), len(obs), self.buffer_len], np.float64))
        mean_distance = float(totals[0] / totals[1])
        return metrics | {
            "learning_rate": learning_rate,
            "expert_share": expert_share,
            "expert_distance": mean_distance**0.5 if self.action_space.shape else mean_distance,
            "buffer_size": float(totals[2]),
        }

    def rank_state_dict(self) -> dict[str, Any]:
        """Return this worker's random generator and buffer."""
        return super().rank_state_dict() | {
            "obs": torch.from_numpy(self.obs.copy()),
            "expert_actions": torch.from_numpy(self.expert_actions.copy()),
            "num_queries": self.num_queries,
        }

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `rank_state_dict` returned."""
        super().load_rank_state_dict(state)
        self.obs, self.expert_actions = state["obs"].numpy().copy(), state["expert_actions"].numpy().copy()
        self.num_queries = int(state["num_queries"])

    def query_expert(self, obs: np.ndarray) -> np.ndarray:
        """Return the expert's actions for observations (K, O), clipped to the action space."""
        assert self.expert is not None  # checked with the settings
        return self._clip(self.expert.predict_batch(obs))

    def _clip(self, actions: np.ndarray) -> np.ndarray:
        space = self.action_space
        return np.clip(actions, space.low, space.high) if space.shape else actions

    def _distance(self, actions: np.ndarray, expert_actions: np.ndarray) -> float:
        """Return the mean squared difference of actions (K, A), or the fraction of actions (K,) that differ."""
        if self.action_space.shape:
            return float(((self._clip(actions) - expert_actions) ** 2).mean())
        return float((actions != expert_actions).mean())

    def _add_to_buffer(self, obs: np.ndarray, expert_actions: np.ndarray) -> None:
        """Add labeled observations (K, O) by reservoir sampling (Vitter 1985, alg. R).

        The buffer remains a uniform sample of all observations so far.
        """
        number = self.num_queries + np.arange(len(obs))
        rows = np.where(number < len(self.obs), number, self.rng.integers(number + 1))
        accepted = rows < len(self.obs)
        self.obs[rows[accepted]], self.expert_actions[rows[accepted]] = obs[accepted], expert_actions[accepted]
        self.num_queries += len(obs)
