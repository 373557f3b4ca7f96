"""Whether EnvPool's port of each DeepMind Control task is the same task as dm_control's own.

Both play the same episodes: dm_control draws its first states from the random stream that EnvPool draws from
(`StdRandom`), so that they agree bit by bit if, and only if, both make episodes in the same way; then both get the
same random actions. From there on, three questions, a row of the result for each task:

- how far are observations and rewards apart, at the start and after 1 and 10 steps,
- do they part earlier than two dm_control episodes of which one was pushed by a millionth (the twin): contacts are
  chaotic, and EnvPool is built with another version of MuJoCo,
- do the returns have one distribution (Kolmogorov–Smirnov), and each observed number the same mean over episodes.

    python benchmarks/dmc_parity.py            # an hour on two cores; goes on where it stopped
    python benchmarks/dmc_parity.py --tasks=dmc:cheetah-run --episodes=10
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
RESULT = Path(__file__).parent / "results/dmc_parity.json"
PUSH = 1e-6  # to the twin's velocities
TOGETHER, APART = 1e-4, 1e-2  # of an observed number, or of 1 where it is smaller
TWINS = 20

# What one task may differ in: mesh inertias and solvers of two versions of MuJoCo.
START = 1e-5  # first observations
SOON = 1e-3  # observations after 10 steps
REWARD = 1e-2  # where observations are together


def same_task(row: dict[str, Any]) -> bool:
    """Return whether a row of the result is that of one task."""
    alike = row["start"] < START and row["after 10 steps"] < SOON and row["reward while together"] < REWARD
    chaotic = row["apart at"] >= 0.5 * row["twins apart at"]  # and no more than the physics are by themselves
    return alike and chaotic and row["KS p"] > 1e-3 and row["largest z of an observed mean"] < 5


class StdRandom(np.random.RandomState):
    """Draws what C++ draws from ``std::mt19937(seed)`` with libstdc++'s distributions, each made for one number.

    Args:
        seed: of the stream.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(0)
        self._words = np.random.RandomState(seed)  # the same generator, seeded in the same way

    def _word(self) -> int:
        return int(self._words.randint(0, 2**32, dtype=np.uint32))

    def _one(self) -> float:
        low, high = self._word(), self._word()
        return (low + high * 2.0**32) / 2.0**64

    def uniform(self, low=0.0, high=1.0, size=None):  # type: ignore[no-untyped-def]
        """Draw as numpy's does, number by number."""
        low, high = np.broadcast_arrays(low, high)
        shape = low.shape if size is None else tuple(np.atleast_1d(size))
        pairs = zip(np.broadcast_to(low, shape).ravel(), np.broadcast_to(high, shape).ravel(), strict=True)
        values = np.array([self._one() * (b - a) + a for a, b in pairs]).reshape(shape)
        return values if shape else float(values)

    def rand(self, *shape):  # type: ignore[no-untyped-def]
        """Draw from [0, 1)."""
        return self.uniform(size=shape or None)

    def randn(self, *shape):  # type: ignore[no-untyped-def]
        """Draw by Marsaglia's polar method, of whose two numbers one is thrown away."""
        if shape:
            return np.array([self.randn() for _ in range(int(np.prod(shape)))]).reshape(shape)
        while True:
            x, y = 2 * self._one() - 1, 2 * self._one() - 1
            radius = x * x + y * y
            if 0 < radius <= 1:
                return y * np.sqrt(-2 * np.log(radius) / radius)

    def randint(self, high):  # type: ignore[no-untyped-def]
        """Draw a whole number below `high`, so small that Lemire's method rejects nothing."""
        return (self._word() * high) >> 32

    def choice(self, options, p):  # type: ignore[no-untyped-def]
        """Draw where the manipulator's object is; EnvPool asks for the target first."""
        in_hand, in_target, anywhere = options
        one = self._one()
        return in_target if one <= p[1] else in_hand if one <= p[1] + p[0] else anywhere


def suite_env(env_id: str, seed: int) -> Any:
    """Return dm_control's environment, which will make the episodes that EnvPool makes from `seed`."""
    from milozero.environments.dm_control_env import load_task

    env, _ = load_task(env_id, {}, StdRandom(seed))
    if env_id.startswith("dmc:lqr"):  # EnvPool draws the springs first, and starts the stream again
        env.physics.model.jnt_stiffness[:] = StdRandom(seed).uniform(15, 25, env.physics.model.njnt)
        env.task._random = StdRandom(seed)
    return env


def flat(step: Any) -> np.ndarray:
    """Return dm_control's observation as one vector."""
    return np.concatenate([np.ravel(part) for part in step.observation.values()])


def actions(env: Any, seed: int, steps: int) -> np.ndarray:
    """Return random actions (steps, A) over the whole of what is allowed, ±2 where that is anything."""
    spec = env.action_spec()
    low, high = np.maximum(spec.minimum, -2.0), np.minimum(spec.maximum, 2.0)
    return np.random.default_rng(seed).uniform(low, high, (steps, *spec.shape)).astype(np.float32)


def pool_episodes(env_id: str, env: Any, seeds: list[int], steps: int) -> tuple[np.ndarray, ...]:
    """Return EnvPool's observations (T+1, N, O), and rewards, terminated and truncated (T, N).

    Args:
        env_id: a full id.
        env: dm_control's environment of it.
        seeds: of the N episodes, and of their actions.
        steps: T.
    """
    from milozero.environments import dmc
    from milozero.environments.pool import EnvPoolVector

    pool = EnvPoolVector(dmc.to_envpool_name(env_id), keys=list(env.observation_spec()))
    taken = np.stack([actions(env, seed, steps) for seed in seeds], axis=1)
    obs, rows = [pool.reset(seed=seeds)[0].copy()], []
    for action in taken:
        after, *row, _ = pool.step(action)
        obs.append(after.copy())
        rows.append([value.copy() for value in row])
    pool.close()
    return np.array(obs), *map(np.array, zip(*rows, strict=True))


def suite_episode(env: Any, seed: int, steps: int, push: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return observations (T+1, O) and rewards (T,) of one dm_control episode, its first velocities pushed."""
    env.task._random = StdRandom(seed)
    first = env.reset()
    if push:
        env.physics.data.qvel[:] += push * np.random.default_rng(seed).normal(size=env.physics.model.nv)
        env.physics.after_reset()
    obs, rewards = [flat(first)], []
    for action in actions(env, seed, steps):
        step = env.step(action.astype(float))
        obs.append(flat(step))
        rewards.append(step.reward)
    return np.array(obs), np.array(rewards)


def distance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return how far two episodes' observations (T+1, O) are apart at each time, (T+1,)."""
    return (np.abs(left - right) / np.maximum(1.0, np.abs(left))).max(axis=-1)


def parting(distances: np.ndarray, limit: float = APART) -> int:
    """Return the first time at which two episodes are apart, or their length."""
    return int(np.argmax(distances > limit)) if (distances > limit).any() else len(distances)


def compare(env_id: str, episodes: int, steps: int) -> dict[str, Any]:
    """Return a task's row of the result."""
    from scipy import stats

    seeds = list(range(1, episodes + 1))
    # some at a time, since every environment of EnvPool has a model of its own, 20 MB and more
    env = suite_env(env_id, 0)
    parts = [pool_episodes(env_id, env, seeds[first : first + 20], steps) for first in range(0, episodes, 20)]
    pool_obs, pool_rewards, terminated, truncated = (
        np.concatenate(part, axis=1) for part in zip(*parts, strict=True)
    )
    returns, highest, means, distances, reward_errors, partings, twin_partings = [], [], [], [], [], [], []
    for k, seed in enumerate(seeds):
        if env_id.startswith("dmc:lqr"):
            env = suite_env(env_id, seed)
        obs, rewards = suite_episode(env, seed, steps)
        apart = distance(obs, pool_obs[:, k])
        distances.append(apart[:11])
        together = max(parting(apart, TOGETHER) - 1, 0)  # steps
        reward_errors.append(np.abs(rewards - pool_rewards[:, k])[:together].max(initial=0.0))
        partings.append(parting(apart))
        returns.append(rewards.sum())
        highest.append(rewards.max())
        means.append(obs.mean(axis=0))
        if k < TWINS:
            twin_partings.append(parting(distance(obs, suite_episode(env, seed, steps, PUSH)[0])))
    pool_means, suite_means = pool_obs.mean(axis=0), np.array(means)  # (N, O)
    error = np.sqrt((pool_means.var(axis=0) + suite_means.var(axis=0)) / episodes)
    z = np.abs(pool_means.mean(axis=0) - suite_means.mean(axis=0)) / np.maximum(error, 1e-9)
    pool_returns = pool_rewards.sum(axis=0, dtype=float)
    # EnvPool's rewards are float32, which has no numbers as small as the tails of some rewards
    test = stats.ks_2samp(np.round(returns, 6), np.round(pool_returns, 6))
    at = np.array(distances)
    return {
        "episodes": episodes,
        "start": float(at[:, 0].max()),
        "after 1 step": float(np.median(at[:, 1])),
        "after 10 steps": float(np.median(at[:, -1])),
        "reward while together": float(np.max(reward_errors)),
        "highest reward": float(np.max(highest)),
        "apart": float(np.mean(np.array(partings) <= steps)),
        "apart at": float(np.median(partings[:TWINS])),
        "twins apart": float(np.mean(np.array(twin_partings) <= steps)),
        "twins apart at": float(np.median(twin_partings)),
        "return dm_control": [float(np.mean(returns)), float(np.std(returns))],
        "return EnvPool": [float(pool_returns.mean()), float(pool_returns.std())],
        "largest difference of a return": float(np.abs(np.array(returns) - pool_returns).max()),
        "KS": float(test.statistic),
        "KS p": float(test.pvalue),
        "largest z of an observed mean": float(z.max()),
        "observed numbers": len(z),
        "terminated": int(terminated.sum()),
        "truncated at": sorted({int(t) + 1 for t in np.argwhere(truncated)[:, 0]}),
    }


def main() -> None:
    """Fill in the rows that the result lacks."""
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from milozero.environments import dmc

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", default="", help="full ids, comma-separated; all of them by default")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = json.loads(options.output.read_text()) if options.output.exists() else {}
    wanted = [env_id for env_id in options.tasks.split(",") if env_id] or dmc.list_env_ids()
    left = [env_id for env_id in wanted if env_id not in rows]
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress, ProcessPoolExecutor(options.processes) as workers:
        bar = progress.add_task("tasks", total=len(wanted), completed=len(wanted) - len(left))
        jobs = {workers.submit(compare, env_id, options.episodes, options.steps): env_id for env_id in left}
        for job in as_completed(jobs):
            rows[jobs[job]] = job.result()
            ordered = {env_id: rows[env_id] for env_id in dmc.list_env_ids() if env_id in rows}
            options.output.write_text(json.dumps(ordered, indent=1) + "\n")
            progress.advance(bar)
    for env_id in wanted:
        row = rows[env_id]
        figures = "  ".join(f"{row[key]:9.2g}" for key in ("start", "after 1 step", "after 10 steps"))
        ends = f"{row['apart at']:5.0f} {row['twins apart at']:5.0f}"
        print(f"{env_id:28} {figures}  {ends}  p {row['KS p']:.3f}  z {row['largest z of an observed mean']:.1f}")


if __name__ == "__main__":
    main()
