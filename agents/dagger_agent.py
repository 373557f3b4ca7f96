"""DAgger (Ross et al. 2011), whole: the expert says what it would have done wherever the policy comes to.

An iteration: a rollout of the policy, which the expert at first steers instead; the expert's actions for all of its
observations, added to what there is; some passes over that, as in behavioral cloning. The expert is a checkpoint of
any algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from milozero.agents.base import AgentContext
from milozero.agents.bc_agent import BC_METRICS, BCBase, CloningConfig
from milozero.agents.rollout import Rollout
from milozero.helpers.config.params import param, usable_path
from milozero.helpers.lazy import lazy_import
from milozero.tracking.metrics import Metric

if TYPE_CHECKING:
    import torch

    from milozero.agents.learning import optimizer as optimizers
else:
    torch = lazy_import("torch")
    optimizers = lazy_import("milozero.agents.learning.optimizer")


@dataclass(frozen=True, kw_only=True)
class DAggerConfig(CloningConfig):
    """Hyper-parameters of DAgger."""

    expert_model: str = param(
        "", "the expert, which learned by any algorithm: its folder of checkpoints", check=usable_path
    )
    expert_iter_num: str = param("best", "which of them: an iteration, best or last")
    dagger_beta_iters: int = param(
        1, "iterations over which the share of steps that the expert steers falls from 1 to 0", low=0
    )
    dagger_buffer_size: int = param(
        100_000, "observations that a worker keeps; of more, a random choice of all so far", low=1, high=10**7
    )


DAGGER_METRICS = {
    **{name: BC_METRICS[name] for name in ("entropy", "grad_norm", "learning_rate")},
    "policy_loss": Metric(
        "update",
        "nats, or action²",
        "−mean log-probability of the expert's actions, or with `bc_loss=mse` the mean squared error of the most "
        "probable ones",
        "falls, steeply at first",
        "Ross et al. 2011, alg. 3.1",
    ),
    "expert_share": Metric(
        "update", "share", "of the steps, those that the expert steers", "1 at first, then 0", "Ross et al. 2011, β"
    ),
    "expert_distance": Metric(
        "update",
        "action, or share",
        "root mean squared distance between the policy's and the expert's most probable actions where the rollout "
        "came, before the update; of a finite set, the share in which they differ",
        "falls; where it stays large, the policy cannot do what the expert does",
    ),
    "buffer_size": Metric("update", "observations", "that all workers keep to learn from", "grows up to its limit"),
}


class DAggerAgent(BCBase):
    """A policy that learns from an expert's answers about its own observations; each worker keeps its own."""

    Config = DAggerConfig
    METRICS = DAGGER_METRICS
    LEARNS_FROM_DEMOS = False
    DISCRIMINATES = False
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
            self.optimizer.run_epoch(optimizers.PackedBatch(batch), config.batch_size, self.rng)
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
