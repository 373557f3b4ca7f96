"""Collect rollouts: the only place where training steps its environments."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from milozero.helpers.affinity import pin_to_current_core
from milozero.helpers.errors import NonFiniteError
from milozero.helpers.seeding import Purpose, make_rng, make_seed

if TYPE_CHECKING:
    from milozero.environments.vector import VectorEnv


@dataclass(frozen=True)
class EpisodeStats:
    """One finished training episode."""

    return_: float  # sum of the environment's rewards
    length: int  # environment steps
    end: int = 0  # time step of the rollout at which the episode ended


@dataclass
class Rollout:
    """`T` steps of `N` environments, time-major. Row t holds step t.

    Environments autoreset on the *next* step: if step t ends an episode, ``obs[t + 1]`` is its final observation
    and step t + 1 is a padding step, whose action the environment ignores.
    """

    obs: np.ndarray  # (T+1, N, O) float32, before each step; the last row is after the last step
    actions: np.ndarray  # (T, N, A) float32 or (T, N) int64, as sampled, in the policy's units, not clipped
    rewards: np.ndarray  # (T, N) float32, as the environment returned them
    terminated: np.ndarray  # (T, N) bool, the episode reached a terminal state: no bootstrapping
    truncated: np.ndarray  # (T, N) bool, the episode was stopped, e.g. by a time limit: bootstrap
    mask: np.ndarray  # (T, N) bool, False for padding steps
    episodes: list[EpisodeStats]  # those that ended in this rollout

    @property
    def done(self) -> np.ndarray:
        """(T, N) bool, the episode ended with this step: terminated or truncated."""
        return self.terminated | self.truncated


class ActionSampler(Protocol):
    """The part of an agent that collects rollouts."""

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return random numbers (steps, ...) for sampling the actions of one environment."""

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return one sampled action for each observation (N, O) float32."""


@dataclass
class ReplayLog:
    """The actions of a worker's environments since their last reset.

    A simulator's state cannot be saved. Resetting it with the same seeds and replaying the actions restores it.
    """

    start: int = 0  # iteration before which the environments were reset
    actions: list[np.ndarray] = field(default_factory=list)  # (T, N, A) of each iteration since
    last_obs: int = 0  # checksum of the observations after the last of these

    def record(self, rollout: Rollout) -> None:
        """Append one iteration's actions."""
        self.actions.append(rollout.actions.copy())
        self.last_obs = obs_checksum(rollout.obs[-1])

    def restart(self, iteration: int) -> None:
        """Drop all actions, because the environments are reset after `iteration`."""
        self.start, self.actions = iteration, []


def obs_checksum(obs: np.ndarray) -> int:
    """Return a checksum of the bits of observations."""
    return zlib.crc32(np.ascontiguousarray(obs).tobytes())


def rollout_generator(
    env: VectorEnv,
    agent: ActionSampler,
    rollout_len: int,
    seed: int,
    first_env: int = 0,
    *,
    reset_interval: int = 0,
    replay_log: ReplayLog | None = None,
) -> Iterator[Rollout]:
    """Yield rollouts indefinitely. Every rollout reuses the arrays of the previous one.

    Every `reset_interval` iterations, all environments are reset with seeds that depend only on (seed, environment,
    iteration), so that a resumed run can do the same. This truncates the episodes in progress, which do not appear
    in `Rollout.episodes`, because their returns are incomplete.

    Args:
        env: this worker's environments.
        agent: samples the actions, with its current parameters.
        rollout_len: environment steps per rollout, a multiple of the number of environments.
        seed: the run's seed; environment i draws its noise from stream ``first_env + i``.
        first_env: global index of this worker's first environment.
        reset_interval: iterations between resets of all environments; 0 never resets them.
        replay_log: actions of a resumed run. The first rollouts replay them; the caller discards these rollouts. The
            generator keeps the log up to date.

    Raises:
        NonFiniteError: if an observation, action or reward is NaN or infinite; the message names the first one.
    """
    steps = rollout_len // env.num_envs
    streams = range(first_env, first_env + env.num_envs)
    rollout = _allocate(steps, env)
    replay_log = replay_log or ReplayLog()
    iteration, replay = replay_log.start, iter(replay_log.actions)
    replay_log.actions = []
    needs_reset = True
    while True:
        if needs_reset:
            obs = env.reset([make_seed(seed, Purpose.ENVIRONMENT, stream, iteration) for stream in streams])
            rngs = [make_rng(seed, Purpose.NOISE, stream, iteration) for stream in streams]
            done, recorder = np.zeros(env.num_envs, bool), EpisodeStatsRecorder(env.num_envs)
        noise = np.stack([agent.sample_noise(rng, steps) for rng in rngs], axis=1)  # (T, N, ...)
        obs, done = _step_envs(env, agent, rollout, obs, done, noise, next(replay, None), first_env)
        _check_finite(rollout, steps, first_env)
        rollout.episodes = recorder.add(rollout)
        replay_log.record(rollout)
        iteration += 1
        needs_reset = reset_interval > 0 and iteration % reset_interval == 0
        if needs_reset:
            rollout.truncated[-1] |= rollout.mask[-1] & ~rollout.terminated[-1]
            replay_log.restart(iteration)
        yield rollout


def _step_envs(
    env: VectorEnv,
    agent: ActionSampler,
    rollout: Rollout,
    obs: np.ndarray,
    done: np.ndarray,
    noise: np.ndarray,
    replayed_actions: np.ndarray | None,
    first_env: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill `rollout`; return the observations (N, O) and done flags (N,) after the last step.

    The actions are sampled with `noise` (T, N, ...) unless there are `replayed_actions` (T, N, A). Where `done` (N,)
    is true, the first step is a padding step.
    """
    rollout.obs[0] = obs
    with pin_to_current_core() if env.single_threaded else contextlib.nullcontext():
        for t in range(len(noise)):
            if replayed_actions is None:  # the agent acts on the float32 observations that it will learn from
                actions = agent.sample_actions(rollout.obs[t], noise[t])
            else:
                actions = replayed_actions[t]
            rollout.actions[t] = actions
            if not np.isfinite(actions).all():  # before a simulator steps with it
                _check_finite(rollout, t, first_env)
            rollout.mask[t] = ~done
            obs, reward, terminated, truncated = env.step(actions)
            rollout.obs[t + 1] = obs
            rollout.rewards[t] = reward
            rollout.terminated[t] = terminated
            rollout.truncated[t] = truncated
            done = terminated | truncated
    return obs, done


def _allocate(steps: int, env: VectorEnv) -> Rollout:
    shape = (steps, env.num_envs)
    return Rollout(
        obs=np.empty((steps + 1, env.num_envs, env.observation_size), np.float32),
        actions=np.empty(shape + env.action_shape, env.action_dtype),
        rewards=np.empty(shape, np.float32),
        terminated=np.empty(shape, bool),
        truncated=np.empty(shape, bool),
        mask=np.empty(shape, bool),
        episodes=[],
    )


def _check_finite(rollout: Rollout, steps: int, first_env: int) -> None:
    """Check the first `steps` steps, the observation after them and the next action.

    The error names the earliest bad value, e.g. the observation rather than the action computed from it.
    """
    evidence = {
        "obs": rollout.obs[: steps + 1],
        "actions": rollout.actions[: steps + 1],
        "rewards": rollout.rewards[:steps],
    }
    found = []
    for order, (name, values) in enumerate(zip(("observation", "action", "reward"), evidence.values(), strict=True)):
        indices = np.argwhere(~np.isfinite(values))
        if len(indices):
            found.append((indices[0][0], order, name, indices[0][1]))
    if not found:
        return
    t, _, name, n = min(found)
    source = "the policy" if name == "action" else "the environment"
    message = f"{source} returned a NaN or infinite {name} (environment {first_env + n}, step {t} of the rollout)"
    raise NonFiniteError(message, evidence)


class EpisodeStatsRecorder:
    """Computes returns and lengths of episodes, which may span several rollouts."""

    def __init__(self, num_envs: int) -> None:
        self.returns = np.zeros(num_envs)  # (N,) of the episodes in progress
        self.lengths = np.zeros(num_envs, np.int64)

    def add(self, rollout: Rollout) -> list[EpisodeStats]:
        """Return the episodes that ended in `rollout`, in the order they ended."""
        returns = self.returns + np.cumsum(rollout.rewards, axis=0, dtype=np.float64)  # (T, N)
        lengths = self.lengths + np.cumsum(rollout.mask, axis=0)
        returns_before = np.zeros_like(self.returns)  # (N,) sums up to the end of the previous episode
        lengths_before = np.zeros_like(self.lengths)
        episodes = []
        for t, n in np.argwhere(rollout.done):
            return_, length = returns[t, n] - returns_before[n], lengths[t, n] - lengths_before[n]
            episodes.append(EpisodeStats(float(return_), int(length), int(t)))
            returns_before[n], lengths_before[n] = returns[t, n], lengths[t, n]
        self.returns = returns[-1] - returns_before
        self.lengths = lengths[-1] - lengths_before
        return episodes
