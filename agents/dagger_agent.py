"""DAgger (Ross et al. 2011), whole: the expert says what it would have done wherever the policy comes to.

An iteration: a rollout of the policy, which the expert at first steers instead; the expert's actions for all of its
observations, added to what there is; some passes over that, as in behavioral cloning. The expert is a checkpoint of
any algorithm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from milozero.agents.base import AgentContext
from milozero.agents.bc_agent import BCBase
from milozero.agents.dagger_config import DAggerConfig
from milozero.agents.learning.batches import PackedBatch
from milozero.agents.rollout import Rollout


class DAggerAgent(BCBase):
    """A policy that learns from an expert's answers about its own observations; each worker keeps its own."""

    Config = DAggerConfig
    finished = ""
    config: DAggerConfig

    def __init__(self, config: DAggerConfig, observation_size: int, action_space: Any, context: AgentContext) -> None:
        super().__init__(config, observation_size, action_space, context)
        self.space = action_space
        self.expert = context.expert
        self.iterations = context.iteration
        places, kind = config.dagger_buffer_size, np.float32 if action_space.shape else np.int64
        self.obs = np.zeros((places, observation_size), np.float32)  # what is remembered, `buffer_len` rows of it
        self.expert_actions = np.zeros((places, *action_space.shape), kind)
        self.num_queries = 0  # observations so far, also those that are remembered no more

    @property
    def buffer_len(self) -> int:
        """How many observations are remembered."""
        return min(self.num_queries, len(self.obs))

    @property
    def expert_share(self) -> float:
        """The share of steps that the expert steers in the present rollout."""
        return (
            max(0.0, 1.0 - self.iterations / self.config.dagger_beta_iters) if self.config.dagger_beta_iters else 0.0
        )

    def noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return the random numbers (steps, 1) that decide who acts."""
        return rng.random((steps, 1))

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the most probable action, of the policy or the expert, for each observation (N, O)."""
        actions, steered = self.predict_batch(obs), noise[:, 0] < self.expert_share
        if steered.any():
            actions[steered] = self.query_expert(obs[steered])
        return actions

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """Ask the expert about one rollout, and learn from all answers; `progress` goes from 0 to 1 over the run.

        Raises:
            NonFiniteError: where a loss, gradient or parameter is no longer finite, naming it.
        """
        config, share, rate = self.config, self.expert_share, self.set_schedule(progress)
        obs = rollout.obs[:-1][rollout.mask]  # (K, O)
        expert_actions = self.query_expert(obs)
        distance = self._distance(self.predict_batch(obs), expert_actions)
        self._add_to_buffer(obs, expert_actions)
        self.observations.update(obs, self.comm)
        self.iterations += 1
        for _ in range(config.epochs):  # each over as many steps as a rollout has, alike on all workers
            chosen = self.rng.integers(self.buffer_len, size=rollout.mask.size)
            learned = self.tensor(self.observations(self.obs[chosen]))
            batch = {"obs": learned, "actions": self.tensor(self.expert_actions[chosen])}
            self.optimizer.run_epoch(PackedBatch(batch), config.batch_size, self.rng)
        metrics = self.optimizer.pop_metrics()
        self.network.update_batch_norm(learned, self.comm)
        self.actor.refresh()
        total = self.comm.sum_(np.array([distance * len(obs), len(obs), self.buffer_len], np.float64))
        mean = float(total[0] / total[1])
        own = {
            "learning_rate": rate,
            "expert_share": share,
            "expert_distance": mean**0.5 if self.space.shape else mean,
            "buffer_size": float(total[2]),
        }
        return metrics | own

    def rank_state_dict(self) -> dict[str, Any]:
        """Return this worker's random choices, and the answers that it remembers."""
        return {
            "shuffle": self.rng.bit_generator.state,
            "obs": torch.from_numpy(self.obs.copy()),
            "expert_actions": torch.from_numpy(self.expert_actions.copy()),
            "num_queries": self.num_queries,
        }

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a worker's state."""
        self.rng.bit_generator.state = state["shuffle"]
        self.obs, self.expert_actions = state["obs"].numpy().copy(), state["expert_actions"].numpy().copy()
        self.num_queries = int(state["num_queries"])

    def query_expert(self, obs: np.ndarray) -> np.ndarray:
        """Return the expert's actions for observations (K, O), as the environment would take them."""
        assert self.expert is not None  # settings see to it
        actions = self.expert.predict_batch(obs)
        return np.clip(actions, self.space.low, self.space.high) if self.space.shape else actions

    def _distance(self, actions: np.ndarray, expert_actions: np.ndarray) -> float:
        """Return the mean squared distance of actions (K, A), or the share of those (K,) that differ."""
        if self.space.shape:
            return float(((np.clip(actions, self.space.low, self.space.high) - expert_actions) ** 2).mean())
        return float((actions != expert_actions).mean())

    def _add_to_buffer(self, obs: np.ndarray, expert_actions: np.ndarray) -> None:
        """Add observations (K, O) and answers, keep a uniform choice of all so far (Vitter 1985, alg. R)."""
        number = self.num_queries + np.arange(len(obs))
        places = np.where(number < len(self.obs), number, self.rng.integers(number + 1))
        stays = places < len(self.obs)
        self.obs[places[stays]], self.expert_actions[places[stays]] = obs[stays], expert_actions[stays]
        self.num_queries += len(obs)
