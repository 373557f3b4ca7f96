"""Collect rollouts: the only place where training steps its environments."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from milozero.agents.episodes import EpisodeLog, EpisodeStats
from milozero.helpers.affinity import pin_to_current_core
from milozero.helpers.errors import NonFiniteError
from milozero.helpers.seeding import Purpose, make_rng

if TYPE_CHECKING:
    from milozero.environments.vector import VectorEnv


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


def rollout_generator(
    env: VectorEnv,
    agent: ActionSampler,
    rollout_len: int,
    seed: int,
    first_env: int = 0,
    *,
    number: int = 0,
    episodes: EpisodeLog | None = None,
) -> Iterator[Rollout]:
    """Yield rollouts indefinitely. Every rollout reuses the arrays of the previous one.

    Args:
        env: this worker's environments.
        agent: samples the actions, with its current parameters.
        rollout_len: environment steps per rollout, a multiple of the number of environments.
        seed: the run's seed; environment i draws its noise from stream ``first_env + i``.
        first_env: global index of this worker's first environment.
        number: rollouts before the first one; each has its own noise.
        episodes: the current episodes of a resumed run, whose environments are started. The generator keeps them up
            to date. By default, the environments are reset.

    Raises:
        NonFiniteError: if an observation, action or reward is NaN or infinite; the message names the first one.
    """
    steps = rollout_len // env.num_envs
    streams = range(first_env, first_env + env.num_envs)
    rollout = _allocate(steps, env)
    if episodes is None:
        episodes = EpisodeLog(env.num_envs)
        episodes.start_envs(env, seed, first_env)
    for index in itertools.count(number):
        rngs = [make_rng(seed, Purpose.NOISE, stream, index) for stream in streams]
        noise = np.stack([agent.sample_noise(rng, steps) for rng in rngs], axis=1)  # (T, N, ...)
        assert episodes.obs is not None
        last_obs = _step_envs(env, agent, rollout, episodes.obs, episodes.done, noise, first_env)
        _check_finite(rollout, steps, first_env)
        rollout.episodes = episodes.record(
            rollout.obs[1:], rollout.actions, rollout.rewards, rollout.mask, rollout.done, last_obs
        )
        yield rollout


def _step_envs(
    env: VectorEnv,
    agent: ActionSampler,
    rollout: Rollout,
    obs: np.ndarray,
    done: np.ndarray,
    noise: np.ndarray,
    first_env: int,
) -> np.ndarray:
    """Fill `rollout`, sampling actions with `noise` (T, N, ...); return the observations (N, O) after the last step.

    Where `done` (N,) is true, the first step is a padding step.
    """
    rollout.obs[0] = obs
    with pin_to_current_core() if env.single_threaded else contextlib.nullcontext():
        for t in range(len(noise)):  # the agent acts on the float32 observations that it will learn from
            actions = agent.sample_actions(rollout.obs[t], noise[t])
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
    return obs


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
