"""Playing episodes with a trained agent: for a number, a video or demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from milozero.demonstrations.dataset import Episode
from milozero.environments.vector import to_env_action
from milozero.helpers.errors import NonFiniteError
from milozero.helpers.seeding import Purpose, integer

if TYPE_CHECKING:
    import gymnasium

    from milozero.agents.base import Agent
    from milozero.helpers.comm import Comm


def play(agent: Agent, env: gymnasium.Env[Any, Any], seed: int, frame: Callable[[], None] | None = None) -> Episode:
    """Return one whole episode of the deterministic policy.

    Args:
        agent: decides; nothing in it changes.
        env: one environment.
        seed: of the environment's reset.
        frame: called after the reset and each step, for rendering.

    Raises:
        NonFiniteError: at a NaN or infinite observation, action or reward, naming it and the step.
    """
    first, _ = env.reset(seed=seed)
    obs, actions, rewards = [np.asarray(first)], list[Any](), list[float]()
    done = False
    while not done:
        if frame is not None:
            frame()
        _check_finite("observation", obs[-1], seed, len(actions))
        wanted = agent.predict(obs[-1])
        _check_finite("action", wanted, seed, len(actions))
        action = to_env_action(wanted, env.action_space)
        following, reward, terminated, truncated, _ = env.step(action)
        _check_finite("reward", reward, seed, len(actions))
        obs.append(np.asarray(following))
        actions.append(action)
        rewards.append(float(reward))
        done = terminated or truncated
    _check_finite("observation", obs[-1], seed, len(actions))
    if frame is not None:
        frame()
    return Episode(np.array(obs), np.array(actions), np.array(rewards), bool(terminated), bool(truncated))


def _check_finite(name: str, value: Any, seed: int, step: int) -> None:
    if not np.isfinite(value).all():
        where = f"evaluation episode of seed {seed}, step {step}"
        raise NonFiniteError(f"NaN or infinite {name} ({where})", {name: np.asarray(value)})


def episode_seeds(seed: int, count: int) -> list[int]:
    """Return the seeds of the first `count` evaluation episodes of a run; the same in training and afterwards."""
    return [integer(seed, Purpose.EVALUATION, k) for k in range(count)]


def shares(comm: Comm, count: int) -> Iterator[int]:
    """Yield the indices of the episodes that this worker plays."""
    return iter(range(comm.rank, count, comm.size))


def evaluate(
    agent: Agent,
    env: gymnasium.Env[Any, Any],
    seed: int,
    count: int,
    comm: Comm,
) -> list[tuple[float, int]]:
    """Return return and length of `count` episodes, shared out over the workers, in order, on every worker."""
    seeds = episode_seeds(seed, count)
    mine = {}
    for k in shares(comm, count):
        episode = play(agent, env, seeds[k])
        mine[k] = (episode.return_, len(episode))
    everyone: dict[int, tuple[float, int]] = {}
    for part in comm.allgather(mine):
        everyone |= part
    return [everyone[k] for k in range(count)]
