"""What the orchestrator asks of an agent, whatever the algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.helpers.comm import Comm


class Agent(Protocol):
    """An agent that learns from rollouts.

    The whole of training::

        for rollout in rollout_generator(env, agent, rollout_len, seed):
            metrics = agent.update(rollout, progress)
        action = agent.act(obs)
    """

    Config: type  # its hyper-parameters, a frozen dataclass of `milozero.helpers.config.params.param` fields
    finished: str  # why there is nothing more to learn, alike on all workers; empty while there is

    def __init__(self, config: Any, observation_size: int, action_space: Any, context: AgentContext) -> None:
        """Build networks and optimizers; the parameters are the same on every worker."""

    def noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return the random numbers (steps, ...) that one environment's actions need."""

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return one sampled action for each observation (N, O); what training steps with."""

    def predict(self, obs: np.ndarray) -> np.ndarray:
        """Return the deterministic action for one observation (O,)."""

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """Learn from one rollout; `progress` goes from 0 to 1 over the run. Return `METRICS`, alike everywhere."""

    def parameter_hash(self) -> int:
        """Return a checksum that is the same on every worker as long as their parameters are."""

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimizers and normalizers: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""

    def rank_state_dict(self) -> dict[str, Any]:
        """Return what this worker alone has: random generators, running returns of its environments, ...

        After it and `state_dict` are loaded, the agent must learn the same bits as one that never stopped.
        """

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a worker's state."""


class AgentContext:
    """Where an agent runs: facts that are no hyper-parameters."""

    def __init__(
        self,
        comm: Comm,
        *,
        seed: int = 0,
        iteration: int = 0,
        num_envs: int = 1,
        device: str = "cpu",
        compile: bool = False,
        demos: Sequence[Episode] = (),
        imitation: ImitationConfig | None = None,
        expert: Any = None,
        reward: Any = None,
    ) -> None:
        self.comm = comm
        self.seed = seed
        self.iteration = iteration  # after which the run goes on; random streams start anew there
        self.num_envs = num_envs  # of this worker
        self.device = device
        self.compile = compile
        self.demos = demos  # none where the agent only plays
        self.imitation = imitation or ImitationConfig()
        self.expert = expert  # an agent to ask what it would do, where the algorithm does
        self.reward = reward  # an agent whose `learned_reward` counts instead of the environment's reward
