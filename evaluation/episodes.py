"""Run episodes with a trained agent, for returns, videos or demonstrations."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from milozero import environments
from milozero.demonstrations.dataset import Episode
from milozero.environments.actions import make_converter
from milozero.experiment.settings import DEFAULT_EVAL_MAX_STEPS
from milozero.helpers.errors import NonFiniteError
from milozero.helpers.logging import pluralize
from milozero.helpers.seeding import Purpose, make_rng, make_seed, preserve_global_rngs, seed_global_rngs

if TYPE_CHECKING:
    import gymnasium

    from milozero.agents.base import Agent
    from milozero.helpers.comm import Comm

T = TypeVar("T")


class InterruptedEpisodeError(Exception):
    """An episode was interrupted before its end."""


class EpisodeResult(NamedTuple):
    """The result of an evaluation episode."""

    return_: float
    cut_off: bool  # after the maximum number of steps


class Limits(NamedTuple):
    """Limits of an evaluation that would take too long."""

    max_steps: float = math.inf  # of an episode, which is then truncated
    should_stop: Callable[[], bool] = lambda: False  # called before each step; if true, the episode is discarded

    def has_cut_off(self, episode: Episode) -> bool:
        """Return whether an episode was cut off after the maximum number of steps."""
        return len(episode) >= self.max_steps and not episode.terminated


NO_LIMITS = Limits()


def choose_max_steps(max_steps: int | None, time_limit: int | None) -> float:
    """Return after how many steps to cut off an episode; infinity if the environment's `time_limit` comes first."""
    if max_steps is None:
        return math.inf if time_limit else DEFAULT_EVAL_MAX_STEPS
    return math.inf if time_limit and time_limit <= max_steps else max_steps


def make_eval_env(
    env_id: str, env_kwargs: Mapping[str, Any], seed: int, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """Return an environment to evaluate in, the same during and after training; raises the errors of `make_env`."""
    seed_global_rngs(make_seed(seed, Purpose.CONSTRUCTION))  # its constructor may draw from them
    return environments.make_env(env_id, render_mode, env_kwargs)


def run_episode(
    agent: Agent,
    env: gymnasium.Env[Any, Any],
    seed: int,
    callback: Callable[[], None] | None = None,
    limits: Limits = NO_LIMITS,
    *,
    stochastic: bool = False,
) -> Episode:
    """Run one episode.

    Args:
        agent: the agent; it is not updated.
        env: a single environment.
        seed: seed of the environment's reset, and of the noise of sampled actions.
        callback: called after the reset and after each step, e.g. to render a frame.
        limits: when to end the episode early.
        stochastic: sample actions instead of taking the most probable ones.

    Raises:
        InterruptedEpisodeError: if `limits.should_stop` returns True.
        NonFiniteError: if an observation, action or reward is not finite in float32, the precision of training.
    """
    converter = make_converter(env.action_space)
    first, _ = env.reset(seed=seed)
    # Copies: an environment may return the same array every time, or change the action it receives.
    obs, actions, rewards = [np.array(first)], list[Any](), list[float]()
    rng, done = make_rng(seed, Purpose.EVALUATION_NOISE), False
    while not done:
        if limits.should_stop():
            raise InterruptedEpisodeError
        if callback is not None:
            callback()
        _check_finite("observation", obs[-1], seed, len(actions))
        seen = np.asarray(obs[-1], np.float32)  # as in `Rollout.obs`
        predicted = agent.sample_action(seen, rng) if stochastic else agent.predict(seen)
        _check_finite("action", predicted, seed, len(actions))
        action = converter.to_env(predicted)
        kept_action = np.array(action)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        _check_finite("reward", reward, seed, len(actions))
        obs.append(np.array(next_obs))
        actions.append(kept_action)
        rewards.append(float(reward))
        truncated = truncated or len(actions) >= limits.max_steps
        done = terminated or truncated
    _check_finite("observation", obs[-1], seed, len(actions))
    if callback is not None:
        callback()
    return Episode(np.array(obs), np.array(actions), np.array(rewards), bool(terminated), bool(truncated))


def _check_finite(name: str, value: Any, seed: int, step: int) -> None:
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.asarray(value, np.float32)).all()
    if not finite:
        where = f"evaluation episode with seed {seed}, step {step}"
        raise NonFiniteError(f"NaN or infinite {name} ({where})", {name: np.asarray(value)})


def episode_seeds(seed: int, count: int, purpose: Purpose = Purpose.EVALUATION) -> list[int]:
    """Return the seeds of the first `count` episodes, by default those of the evaluations during training."""
    return [make_seed(seed, purpose, k) for k in range(count)]


def share_episodes(
    run: Callable[[int, int], T], seed: int, count: int, comm: Comm, purpose: Purpose = Purpose.EVALUATION
) -> list[T]:
    """Return the results of ``run(k, seed of episode k)`` for `count` episodes, in order (collective).

    The workers share the episodes, whose seeds depend on the `purpose`; see `episode_seeds`. A worker stops if its
    episode is interrupted, which leaves fewer results.
    """
    seeds, results = episode_seeds(seed, count, purpose), dict[int, T]()
    for k in range(comm.rank, count, comm.size):
        try:
            results[k] = run(k, seeds[k])
        except InterruptedEpisodeError:
            break
    parts = comm.allgather(list(results.items()))
    return [result for _, result in sorted(itertools.chain(*parts), key=lambda item: item[0])]


def evaluate_policy(
    agent: Agent,
    env: gymnasium.Env[Any, Any],
    seed: int,
    count: int,
    comm: Comm,
    limits: Limits = NO_LIMITS,
    *,
    stochastic: bool = False,
) -> list[EpisodeResult]:
    """Return the results of `count` episodes, in order; fewer if `limits` stop it early (collective)."""

    def run(_: int, seed: int) -> EpisodeResult:
        episode = run_episode(agent, env, seed, limits=limits, stochastic=stochastic)
        return EpisodeResult(episode.return_, limits.has_cut_off(episode))

    with preserve_global_rngs():  # training environments may draw from them
        return share_episodes(run, seed, count, comm)


def summarize_returns(returns: Sequence[float]) -> dict[str, float]:
    """Return mean, std (population, not sample), min and max of returns; NaN if there are none."""
    if not returns:
        return dict.fromkeys(("mean", "std", "min", "max"), math.nan)
    mean, std = statistics.fmean(returns), statistics.pstdev(returns)
    return {"mean": mean, "std": std, "min": min(returns), "max": max(returns)}


def describe_cut_off(num_cut_off: int, count: int, max_steps: float) -> str:
    """Return a message that says how many episodes of an evaluation were cut off."""
    episodes = pluralize(count, "episode")
    return f"evaluation: {num_cut_off} of {episodes} cut off after {max_steps:,.0f} steps (--eval_max_steps)"
