"""The interface between the training loop and an algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from milozero.agents.replay_buffer import ReplayBuffer
from milozero.agents.rollout import ActionSampler, Rollout
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.helpers.comm import Comm


class Agent(ActionSampler, Protocol):
    """An agent that learns from rollouts.

    The training loop::

        for rollout in rollout_generator(env, agent, rollout_len, seed):
            metrics = agent.update(rollout, progress)
        action = agent.predict(obs)
    """

    Config: type  # hyper-parameters: a frozen dataclass of `milozero.helpers.config.params.param` fields
    replay_buffer: ReplayBuffer | None  # of this worker; saved beside the checkpoints

    def __init__(self, config: Any, observation_size: int, action_space: Any, context: AgentContext) -> None:
        """Build networks and optimizers. Every worker starts with the same parameters.

        `action_space` is the policy's: a 1-D Box, with bounds of −1 and 1 unless the environment's are infinite, or a
        Discrete that starts at 0. An agent receives and returns actions in these units;
        `milozero.environments.actions` converts them.
        """

    def predict(self, obs: np.ndarray) -> np.ndarray:
        """Return the deterministic action for one observation (O,); used to evaluate."""

    def sample_action(self, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return an action sampled from the policy for one observation (O,); used by ``--eval_stochastic``."""

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """Learn from one rollout and return ``Config.METRICS``, the same values on every worker.

        Args:
            rollout: this worker's environment steps.
            progress: completed fraction of the run, from 0 to 1.

        Raises:
            NonFiniteError: if a loss, gradient or parameter is NaN or infinite; the message names it.
        """

    def early_stop(self) -> str:
        """Return why training ends before its budget is exhausted, the same on every worker; empty to continue."""

    def init_from(self, source: Any) -> dict[str, bool]:
        """Copy the networks and normalizers of another agent that fit this one.

        Args:
            source: any agent with the same observations, actions and `POLICY_SETTINGS`.

        Returns:
            Name → whether it was copied, for each network and normalizer of this agent.
        """

    def parameter_hash(self) -> int:
        """Return a checksum of all parameters; equal on all workers while their parameters are equal."""

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimizers and normalizers as tensors and plain values, equal on all workers.

        Training checks this every ``--sync_check_frequency`` iterations.
        """

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""

    def rank_state_dict(self) -> dict[str, Any]:
        """Return the state of this worker only, e.g. random generators and running returns.

        An agent that loads this and `state_dict` must continue bit-exactly.
        """

    def load_rank_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `rank_state_dict` returned."""


@dataclass
class AgentContext:
    """What an agent needs beyond its hyper-parameters."""

    comm: Comm
    seed: int = 0
    iteration: int = 0  # completed before this launch; random streams restart here
    num_envs: int = 1  # of this worker
    device: str = "cpu"  # torch device of the networks
    compile: bool = False  # updates with torch.compile
    demos: Sequence[Episode] = ()  # to imitate, in the policy's units; empty if the agent is only evaluated
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    expert: Any = None  # agent to query for expert actions
    reward_model: Any = None  # agent whose `learned_reward` replaces the environment's reward
