"""Run episodes with a trained agent, for returns, videos or demonstrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from milozero.demonstrations.dataset import Episode
from milozero.environments.vector import to_env_action
from milozero.helpers.errors import NonFiniteError
from milozero.helpers.seeding import Purpose, make_seed

if TYPE_CHECKING:
    import gymnasium

    from milozero.agents.base import Agent
    from milozero.helpers.comm import Comm

T = TypeVar("T")


def run_episode(
    agent: Agent, env: gymnasium.Env[Any, Any], seed: int, callback: Callable[[], None] | None = None
) -> Episode:
    """Run one episode with the deterministic policy.

    Args:
        agent: the agent; it is not updated.
        env: a single environment.
        seed: seed of the environment's reset.
        callback: called after the reset and after each step, e.g. to render a frame.

    Raises:
        NonFiniteError: if an observation, action or reward is NaN or infinite.
    """
    first, _ = env.reset(seed=seed)
    # Copies: an environment may return the same array every time, or change the action it receives.
    obs, actions, rewards = [np.array(first)], list[Any](), list[float]()
    done = False
    while not done:
        if callback is not None:
            callback()
        _check_finite("observation", obs[-1], seed, len(actions))
        predicted = agent.predict(obs[-1])
        _check_finite("action", predicted, seed, len(actions))
        action = to_env_action(predicted, env.action_space)
        kept_action = np.array(action)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        _check_finite("reward", reward, seed, len(actions))
        obs.append(np.array(next_obs))
        actions.append(kept_action)
        rewards.append(float(reward))
        done = terminated or truncated
    _check_finite("observation", obs[-1], seed, len(actions))
    if callback is not None:
        callback()
    return Episode(np.array(obs), np.array(actions), np.array(rewards), bool(terminated), bool(truncated))


def _check_finite(name: str, value: Any, seed: int, step: int) -> None:
    if not np.isfinite(value).all():
        where = f"evaluation episode with seed {seed}, step {step}"
        raise NonFiniteError(f"NaN or infinite {name} ({where})", {name: np.asarray(value)})


def episode_seeds(seed: int, count: int) -> list[int]:
    """Return the seeds of the first `count` evaluation episodes of a run, the same during and after training."""
    return [make_seed(seed, Purpose.EVALUATION, k) for k in range(count)]


def share_episodes(run: Callable[[int, int], T], seed: int, count: int, comm: Comm) -> list[T]:
    """Return the results of ``run(k, seed of episode k)`` for `count` episodes, in order (collective).

    The workers share the episodes.
    """
    seeds = episode_seeds(seed, count)
    parts = comm.allgather([run(k, seeds[k]) for k in range(comm.rank, count, comm.size)])
    return [parts[k % comm.size][k // comm.size] for k in range(count)]


def evaluate_policy(agent: Agent, env: gymnasium.Env[Any, Any], seed: int, count: int, comm: Comm) -> list[float]:
    """Return the returns of `count` episodes, in order (collective)."""
    return share_episodes(lambda _, seed: run_episode(agent, env, seed).return_, seed, count, comm)
