"""From environment steps to a `Rollout`: the one place where training steps its environments."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from milozero.helpers.affinity import pin_to_current_core
from milozero.helpers.errors import NonFiniteError
from milozero.helpers.seeding import Purpose, generator, integer

if TYPE_CHECKING:
    from milozero.environments.vector import VectorEnv


@dataclass(frozen=True)
class EpisodeStats:
    """One finished training episode, as the environment scored it."""

    return_: float  # sum of raw rewards
    length: int  # environment steps


@dataclass
class Rollout:
    """`T` steps of `N` environments, time first. Row t holds what happened in step t.

    Environments reset themselves on the step *after* an episode's end, so ``obs[t + 1]`` is the episode's
    final observation where step t ended it, and step t + 1 is a dead row: its action was ignored.
    """

    obs: np.ndarray  # (T+1, N, O) float32, before each step; the last row is after the last step
    actions: np.ndarray  # (T, N, A) float32 or (T, N) int64, as the policy sampled them, not clipped
    rewards: np.ndarray  # (T, N) float32, raw
    terminated: np.ndarray  # (T, N) bool, the episode ended by its own rules: no value beyond it
    truncated: np.ndarray  # (T, N) bool, cut off from outside: the final observation still has a value
    mask: np.ndarray  # (T, N) bool, False on dead rows
    episodes: list[EpisodeStats]  # those that ended in this rollout

    @property
    def done(self) -> np.ndarray:
        """(T, N) bool, the episode ended with this step, for whichever reason."""
        return self.terminated | self.truncated


class Sampler(Protocol):
    """What the rollout needs of an agent."""

    def noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """Return the random numbers (steps, ...) that one environment's actions need."""

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return one sampled action for each observation (N, O)."""


@dataclass
class ReplayLog:
    """What a worker's environments went through since they last started afresh.

    A simulator's state cannot be saved, but the seeds it started from and the actions it was given can: played
    again, they bring it back.
    """

    start: int = 0  # the iteration before which the episodes started afresh
    actions: list[np.ndarray] = field(default_factory=list)  # (T, N, A) of each iteration since
    last_obs: int = 0  # fingerprint of where this led to


def fingerprint(obs: np.ndarray) -> int:
    """Return a checksum of observations' bits."""
    return zlib.crc32(np.ascontiguousarray(obs).tobytes())


def rollout_generator(
    env: VectorEnv,
    agent: Sampler,
    rollout_len: int,
    seed: int,
    first_env: int = 0,
    *,
    reset_interval: int = 0,
    replay_log: ReplayLog | None = None,
) -> Iterator[Rollout]:
    """Yield one rollout after another, for ever; each reuses the arrays of the one before.

    After every `reset_interval` iterations the environments start fresh episodes from seeds of (seed, environment,
    iteration), which a resumed run can do as well. The episodes that this cuts off are truncated, and not among the
    rollout's `episodes`: their returns are not those of whole ones.

    Args:
        env: this worker's environments.
        agent: samples the actions; whatever it has learned since the last rollout counts.
        rollout_len: environment steps per rollout, a multiple of the number of environments.
        seed: the run's seed; environment i draws its noise from stream ``first_env + i``.
        first_env: global index of this worker's first environment.
        reset_interval: iterations between fresh starts; 0 for never.
        replay_log: of a resumed run: the first rollouts replay it, and are to be skipped. Kept up to date.

    Raises:
        NonFiniteError: at a NaN or infinite observation, action or reward, naming the first one.
    """
    steps, num_envs = rollout_len // env.num_envs, env.num_envs
    streams = range(first_env, first_env + num_envs)
    rollout = _empty(steps, env)
    replay_log = replay_log or ReplayLog()
    iteration, replay = replay_log.start, iter(replay_log.actions)
    replay_log.actions = []
    fresh = True
    while True:
        if fresh:
            obs = env.reset([integer(seed, Purpose.ENVIRONMENT, stream, iteration) for stream in streams])
            rngs = [generator(seed, Purpose.NOISE, stream, iteration) for stream in streams]
            ended, recorder = np.zeros(num_envs, bool), EpisodeStatsRecorder(num_envs)
        replayed_actions = next(replay, None)
        rollout.obs[0] = obs
        noise = np.stack([agent.noise(rng, steps) for rng in rngs], axis=1)
        with pin_to_current_core() if env.single_threaded else contextlib.nullcontext():
            for t in range(steps):
                action = agent.sample_actions(obs, noise[t]) if replayed_actions is None else replayed_actions[t]
                if not np.isfinite(action).all():  # no simulator is to see it
                    rollout.actions[t] = action
                    _check_finite(rollout, t, first_env)
                obs, reward, terminated, truncated = env.step(action)
                rollout.obs[t + 1] = obs
                rollout.actions[t] = action
                rollout.rewards[t] = reward
                rollout.terminated[t] = terminated
                rollout.truncated[t] = truncated
                rollout.mask[t] = ~ended
                ended = terminated | truncated
        _check_finite(rollout, steps, first_env)
        rollout.episodes = recorder.add(rollout)
        replay_log.actions.append(rollout.actions.copy())
        replay_log.last_obs = fingerprint(rollout.obs[-1])
        iteration += 1
        fresh = reset_interval > 0 and iteration % reset_interval == 0
        if fresh:
            rollout.truncated[-1] |= rollout.mask[-1] & ~rollout.terminated[-1]
            replay_log.start, replay_log.actions = iteration, []
        yield rollout


def _empty(steps: int, env: VectorEnv) -> Rollout:
    cells = (steps, env.num_envs)
    return Rollout(
        obs=np.empty((steps + 1, env.num_envs, env.observation_size), np.float32),
        actions=np.empty(cells + env.action_shape, env.action_dtype),
        rewards=np.empty(cells, np.float32),
        terminated=np.empty(cells, bool),
        truncated=np.empty(cells, bool),
        mask=np.empty(cells, bool),
        episodes=[],
    )


def _check_finite(rollout: Rollout, steps: int, first_env: int) -> None:
    """Refuse a NaN or an infinite number in the first `steps` rows and what lies before the next one.

    The first is the one to blame: a NaN observation makes NaN actions.
    """
    parts = {
        "observation": rollout.obs[: steps + 1],
        "action": rollout.actions[: steps + 1],
        "reward": rollout.rewards[:steps],
    }
    found = []
    for order, (name, values) in enumerate(parts.items()):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            found.append((bad[0][0], order, name, bad[0][1]))
    if not found:
        return
    t, _, name, n = min(found)
    source = "the policy" if name == "action" else "the environment"
    raise NonFiniteError(
        f"{source} returned a NaN or infinite {name} (environment {first_env + n}, step {t} of the rollout)",
        {
            "obs": rollout.obs[: steps + 1],
            "actions": rollout.actions[: steps + 1],
            "rewards": rollout.rewards[:steps],
        },
    )


class EpisodeStatsRecorder:
    """Adds raw rewards up to episode returns, over the borders between rollouts."""

    def __init__(self, num_envs: int) -> None:
        self.returns = np.zeros(num_envs)  # (N,) of the episodes still running
        self.lengths = np.zeros(num_envs, np.int64)

    def add(self, rollout: Rollout) -> list[EpisodeStats]:
        """Return the episodes that ended in `rollout`, in the order of their ends."""
        returns = self.returns + np.cumsum(rollout.rewards, axis=0, dtype=np.float64)  # (T, N)
        lengths = self.lengths + np.cumsum(rollout.mask, axis=0)
        returns_before = np.zeros_like(self.returns)
        lengths_before = np.zeros_like(self.lengths)
        episodes = []
        for t, n in np.argwhere(rollout.done):
            return_, length = returns[t, n] - returns_before[n], lengths[t, n] - lengths_before[n]
            episodes.append(EpisodeStats(float(return_), int(length)))
            returns_before[n], lengths_before[n] = returns[t, n], lengths[t, n]
        self.returns = returns[-1] - returns_before
        self.lengths = lengths[-1] - lengths_before
        return episodes
