"""The current episodes of a worker's environments: their statistics, and what restores them in a resumed run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from milozero.environments.vector import CurrentEpisode, checksum_steps
from milozero.helpers.errors import describe_exception
from milozero.helpers.seeding import Purpose, make_seed

if TYPE_CHECKING:
    from milozero.environments.vector import VectorEnv


INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class EpisodeStats:
    """One finished training episode."""

    return_: float  # sum of the environment's rewards
    length: int  # environment steps
    end: int = 0  # time step of the rollout at which the episode ended


class EpisodeLog:
    """The current episodes of one worker's N environments.

    A simulator's state cannot be saved. It follows from the environment's seed, the number of its current episode and
    the actions in it. Checkpoints contain these, and a resumed run repeats the actions.

    Args:
        num_envs: N.
        start: iteration after which the environments started, 0 in a new run. It is part of their seeds: a run that
            is resumed with another number of workers must not repeat its episodes.
    """

    def __init__(self, num_envs: int, start: int = 0) -> None:
        self.start = start
        self.obs: np.ndarray | None = None  # (N, O) after the last step; None until `start_envs`
        self.done = np.zeros(num_envs, bool)  # (N,) whether the last step ended the episode
        self.returns = np.zeros(num_envs)  # (N,) of the episodes in progress
        self.lengths = np.zeros(num_envs, np.int64)
        self.numbers = np.zeros(num_envs, np.int64)  # of the current episodes; an episode is current until the next
        self.actions: list[list[np.ndarray]] = [[] for _ in range(num_envs)]  # of the current episodes, by rollout
        self.checksums = [0] * num_envs  # of the steps of the current episodes; all 0 in new environments

    def num_steps_to_repeat(self) -> int:
        """Return the number of steps that `start_envs` repeats."""
        return sum(len(part) for parts in self.actions for part in parts) if self.obs is None else 0

    def start_envs(
        self, env: VectorEnv, seed: int, first_env: int = 0, should_stop: Callable[[], bool] = lambda: False
    ) -> str:
        """Reset the environments, or restore them to the current episodes.

        Args:
            env: this worker's environments.
            seed: the run's seed.
            first_env: global index of the first environment.
            should_stop: asked before each step and reset that is repeated.

        Returns:
            Why the environments are not as they were: `INTERRUPTED`, or what differs; empty if they are.
        """
        streams = range(first_env, first_env + env.num_envs)
        seeds = [make_seed(seed, Purpose.ENVIRONMENT, stream, self.start) for stream in streams]
        if not any(self.checksums):
            obs = env.reset(seeds)
            nothing = np.zeros(1)
            self.checksums = [checksum_steps(first[None], nothing, nothing) for first in obs]
            self.obs = obs
            return ""
        episodes = [
            CurrentEpisode(int(number), join(parts, env))
            for number, parts in zip(self.numbers, self.actions, strict=True)
        ]
        try:
            restored = env.restore(seeds, episodes, should_stop)
        except Exception as error:  # environments raise arbitrary exceptions
            return f"the same actions raised {describe_exception(error)}"
        if restored is None:
            return INTERRUPTED
        obs, done, checksums = restored
        if checksums != self.checksums:
            return "the same actions led to other steps"
        self.obs, self.done = obs, done
        return ""

    def record(
        self,
        obs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        mask: np.ndarray,
        done: np.ndarray,
        last_obs: np.ndarray,
    ) -> list[EpisodeStats]:
        """Add the steps of a rollout.

        Args:
            obs: (T, N, O), after each step.
            actions: (T, N, A) or (T, N).
            rewards: (T, N).
            mask: (T, N), False for padding steps, which start the next episode.
            done: (T, N), whether the step ended an episode.
            last_obs: (N, O), after the last step, in the environments' precision.

        Returns:
            The episodes that ended, in this order.
        """
        self.obs, self.done = last_obs, done[-1].copy()
        for n, is_step in enumerate(mask.T):
            (starts,) = np.nonzero(~is_step)
            first = 0  # row of the current episode's first action
            if len(starts):
                self.numbers[n] += len(starts)
                self.actions[n], self.checksums[n] = [], 0
                first = starts[-1] + 1
            self.actions[n].append(actions[first:, n].copy())
            rows = slice(first - bool(len(starts)), None)  # a padding step returns the first observation
            self.checksums[n] = checksum_steps(obs[rows, n], rewards[rows, n], done[rows, n], self.checksums[n])
        returns = self.returns + np.cumsum(rewards, axis=0, dtype=np.float64)  # (T, N)
        lengths = self.lengths + np.cumsum(mask, axis=0)
        returns_before = np.zeros_like(self.returns)  # (N,) sums up to the end of the previous episode
        lengths_before = np.zeros_like(self.lengths)
        episodes = []
        for t, n in np.argwhere(done):
            return_, length = returns[t, n] - returns_before[n], lengths[t, n] - lengths_before[n]
            episodes.append(EpisodeStats(float(return_), int(length), int(t)))
            returns_before[n], lengths_before[n] = returns[t, n], lengths[t, n]
        self.returns = returns[-1] - returns_before
        self.lengths = lengths[-1] - lengths_before
        return episodes

    def state_dict(self, env: VectorEnv) -> dict[str, Any]:
        """Return the current episodes, for a checkpoint."""
        actions = [join(parts, env) for parts in self.actions]
        return {
            "start": self.start,
            "numbers": torch.from_numpy(self.numbers.copy()),
            "returns": torch.from_numpy(self.returns.copy()),
            "lengths": torch.from_numpy(self.lengths.copy()),
            "actions": torch.from_numpy(np.concatenate(actions)),  # of one environment after the other
            "num_actions": torch.tensor([len(part) for part in actions]),
            "checksums": list(self.checksums),
        }

    def load_state_dict(self, state: dict[str, Any], env: VectorEnv, max_steps: int) -> None:
        """Load what `state_dict` returned; `start_envs` then restores the environments.

        Args:
            state: from a checkpoint, with the types and shapes of `state_dict`.
            env: this worker's environments.
            max_steps: that one environment may have taken.

        Raises:
            ValueError: if the values are impossible.
        """
        values = {name: value.numpy() for name, value in state.items() if isinstance(value, torch.Tensor)}
        numbers, lengths, counts, actions = (
            values[name] for name in ("numbers", "lengths", "num_actions", "actions")
        )
        if not (numbers >= 0).all() or not (numbers <= max_steps).all() or state["start"] < 0:
            raise ValueError("the numbers of the current episodes are impossible")
        if not (counts >= 0).all() or not (counts <= max_steps).all() or counts.sum() != len(actions):
            raise ValueError("the numbers of steps in the current episodes are impossible")
        if state["actions"].untyped_storage().nbytes() < actions.nbytes:  # a few bytes may claim to be a huge array
            raise ValueError("the actions of the current episodes are incomplete")
        if not ((lengths == counts) | (lengths == 0)).all():  # an episode that has ended has length 0
            raise ValueError("the lengths of the current episodes differ from their numbers of actions")
        limit = np.finfo(np.float32).max
        low, high = (0, env.policy_space.n - 1) if env.discrete else (-limit, limit)
        if not ((low <= actions) & (actions <= high)).all():
            raise ValueError("actions of the current episodes are not in the action space")
        self.start, self.numbers, self.returns, self.lengths = state["start"], numbers, values["returns"], lengths
        self.actions = [[part] for part in np.split(actions, np.cumsum(counts)[:-1])]
        self.checksums = state["checksums"]


def join(parts: list[np.ndarray], env: VectorEnv) -> np.ndarray:
    """Return one environment's actions (K, A) or (K,) in one array."""
    return np.concatenate([np.empty((0, *env.action_shape), env.action_dtype), *parts])
