"""The interface between the training loop and an algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from milozero.agents.rollout import Rollout
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.helpers.comm import Comm


class Agent(Protocol):
    """An agent that learns from rollouts.

    The training loop::

        for rollout in rollout_generator(env, agent, rollout_len, seed):
            metrics = agent.update(rollout, progress)
        action = agent.predict(obs)
    """

    Config: type  # hyper-parameters: a frozen dataclass of `milozero.helpers.config.params.param` fields
    finished: str  # why training is finished, the same on every worker; empty while it is not

    def __init__(self, config: Any, observation_size: int, action_space: Any, context: AgentContext) -> None:
        """Build networks and optimizers. Every worker starts with the same parameters."""

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return random numbers (steps, ...) for sampling the actions of one environment."""

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return one sampled action for each observation (N, O); used to collect rollouts."""

    def predict(self, obs: np.ndarray) -> np.ndarray:
        """Return the deterministic action for one observation (O,); used to evaluate."""

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """Learn from one rollout and return ``Config.METRICS``, the same values on every worker.

        Args:
            rollout: this worker's environment steps.
            progress: completed fraction of the run, from 0 to 1.

        Raises:
            NonFiniteError: if a loss, gradient or parameter is NaN or infinite; the message names it.
        """

    def parameter_hash(self) -> int:
        """Return a checksum of all parameters; equal on all workers while their parameters are equal."""

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimizers and normalizers as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""

    def rank_state_dict(self) -> dict[str, Any]:
        """Return the state of this worker only, e.g. random generators and running returns.

        An agent that loads this and `state_dict` must continue bit-exactly.
        """

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `rank_state_dict` returned."""


class AgentContext:
    """What an agent needs beyond its hyper-parameters."""

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
        reward_model: Any = None,
    ) -> None:
        self.comm = comm
        self.seed = seed
        self.iteration = iteration  # completed before this launch; random streams restart here
        self.num_envs = num_envs  # of this worker
        self.device = device  # torch device of the networks
        self.compile = compile  # updates with torch.compile
        self.demos = demos  # to imitate; empty if the agent is only evaluated
        self.imitation = imitation or ImitationConfig()
        self.expert = expert  # agent to query for expert actions
        self.reward_model = reward_model  # agent whose `learned_reward` replaces the environment's reward
