"""Check that EnvPool's port of each DeepMind Control task matches dm_control's original.

Both run the same episodes. dm_control draws its initial states from the same random stream as EnvPool (`StdRandom`),
so they are bit-identical if and only if both generate episodes in the same way. Both then receive the same random
actions. The result has one row per task, which answers three questions:

- How far apart are observations and rewards at the start, and after 1 and 10 steps?
- Do they diverge earlier than two dm_control episodes, one of which (the twin) starts with its velocities perturbed
  by 1e-6? Contacts are chaotic, and EnvPool is built with a different version of MuJoCo.
- Do the returns have the same distribution (Kolmogorov–Smirnov), and each element of the observation the same mean
  over episodes?

    python benchmarks/dmc_parity.py            # an hour on two cores; resumes if interrupted
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
PUSH = 1e-6  # standard deviation of the twin's perturbed velocities
TOGETHER, APART = 1e-4, 1e-2  # relative to an observed value, or to 1 if that is larger
TWINS = 20

# Tolerances: two versions of MuJoCo differ in mesh inertias and solvers.
START = 1e-5  # first observations
SOON = 1e-3  # observations after 10 steps
REWARD = 1e-2  # as long as observations are close (TOGETHER)


def same_task(row: dict[str, Any]) -> bool:
    """Return whether a row of the result shows two implementations of the same task."""
    alike = row["start"] < START and row["after 10 steps"] < SOON and row["reward while together"] < REWARD
    chaotic = row["apart at"] >= 0.5 * row["twins apart at"]  # diverges little faster than the twins
    return alike and chaotic and row["KS p"] > 1e-3 and row["largest z of an observed mean"] < 5


class StdRandom(np.random.RandomState):
    """Draws the numbers that C++ draws from ``std::mt19937(seed)`` with a new libstdc++ distribution for each number.

    Args:
        seed: seed of the random stream.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(0)
        self._words = np.random.RandomState(seed)  # the same generator with the same seeding

    def _word(self) -> int:
        return int(self._words.randint(0, 2**32, dtype=np.uint32))

    def _one(self) -> float:
        low, high = self._word(), self._word()
        return (low + high * 2.0**32) / 2.0**64

    def uniform(self, low=0.0, high=1.0, size=None):  # type: ignore[no-untyped-def]
        """Draw like numpy's `uniform`, one number at a time."""
        low, high = np.broadcast_arrays(low, high)
        shape = low.shape if size is None else tuple(np.atleast_1d(size))
        pairs = zip(np.broadcast_to(low, shape).ravel(), np.broadcast_to(high, shape).ravel(), strict=True)
        values = np.array([self._one() * (b - a) + a for a, b in pairs]).reshape(shape)
        return values if shape else float(values)

    def rand(self, *shape):  # type: ignore[no-untyped-def]
        """Draw from [0, 1)."""
        return self.uniform(size=shape or None)

    def randn(self, *shape):  # type: ignore[no-untyped-def]
        """Draw with Marsaglia's polar method, discarding one of its two numbers."""
        if shape:
            return np.array([self.randn() for _ in range(int(np.prod(shape)))]).reshape(shape)
        while True:
            x, y = 2 * self._one() - 1, 2 * self._one() - 1
            radius = x * x + y * y
            if 0 < radius <= 1:
                return y * np.sqrt(-2 * np.log(radius) / radius)

    def randint(self, high):  # type: ignore[no-untyped-def]
        """Draw an integer below `high`, which is so small that Lemire's method never rejects."""
        return (self._word() * high) >> 32

    def choice(self, options, p):  # type: ignore[no-untyped-def]
        """Draw the location of the manipulator's object; EnvPool checks the target first."""
        in_hand, in_target, anywhere = options
        one = self._one()
        return in_target if one <= p[1] else in_hand if one <= p[1] + p[0] else anywhere


def suite_env(env_id: str, seed: int) -> Any:
    """Create dm_control's environment, which generates the same episodes as EnvPool with `seed`."""
    from milozero.environments.dm_control_env import load_task

    env, _ = load_task(env_id, {}, StdRandom(seed))
    if env_id.startswith("dmc:lqr"):  # EnvPool draws the springs first, then restarts the stream
        env.physics.model.jnt_stiffness[:] = StdRandom(seed).uniform(15, 25, env.physics.model.njnt)
        env.task._random = StdRandom(seed)
    return env


def flat(step: Any) -> np.ndarray:
    """Return dm_control's observation as one vector."""
    return np.concatenate([np.ravel(part) for part in step.observation.values()])


def actions(env: Any, seed: int, steps: int) -> np.ndarray:
    """Return uniform random actions (steps, A) within the action bounds, or ±2 if those are wider."""
    spec = env.action_spec()
    low, high = np.maximum(spec.minimum, -2.0), np.minimum(spec.maximum, 2.0)
    return np.random.default_rng(seed).uniform(low, high, (steps, *spec.shape)).astype(np.float32)


def pool_episodes(env_id: str, env: Any, seeds: list[int], steps: int) -> tuple[np.ndarray, ...]:
    """Return EnvPool's observations (T+1, N, O), rewards, terminated and truncated (each T, N).

    Args:
        env_id: full environment id.
        env: dm_control's version of the environment.
        seeds: seeds of the N episodes and of their actions.
        steps: number of steps T.
    """
    from milozero.environments import dmc
    from milozero.environments.pool import EnvPoolVector

    pool = EnvPoolVector(dmc.to_envpool_name(env_id), keys=list(env.observation_spec()))
    taken = np.stack([actions(env, seed, steps) for seed in seeds], axis=1)
    pool.seed(seeds)
    obs, rows = [pool.reset().copy()], []
    for action in taken:
        after, *row = pool.step(action)
        obs.append(after.copy())
        rows.append([value.copy() for value in row])
    pool.close()
    return np.array(obs), *map(np.array, zip(*rows, strict=True))


def suite_episode(env: Any, seed: int, steps: int, push: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return observations (T+1, O) and rewards (T,) of a dm_control episode, its velocities perturbed by `push`."""
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
    """Return the distance (T+1,) between two episodes' observations (T+1, O) at each time step."""
    return (np.abs(left - right) / np.maximum(1.0, np.abs(left))).max(axis=-1)


def first_divergence(distances: np.ndarray, limit: float = APART) -> int:
    """Return the first time step at which two episodes have diverged, or their length if they have not."""
    return int(np.argmax(distances > limit)) if (distances > limit).any() else len(distances)


def compare(env_id: str, episodes: int, steps: int) -> dict[str, Any]:
    """Compare both implementations of a task; return its row of the result."""
    from scipy import stats

    seeds = list(range(1, episodes + 1))
    # in groups, because each EnvPool environment has its own model of 20 MB or more
    env = suite_env(env_id, 0)
    parts = [pool_episodes(env_id, env, seeds[first : first + 20], steps) for first in range(0, episodes, 20)]
    pool_obs, pool_rewards, terminated, truncated = (
        np.concatenate(part, axis=1) for part in zip(*parts, strict=True)
    )
    returns, highest, means, distances, reward_errors, divergences, twin_divergences = [], [], [], [], [], [], []
    for k, seed in enumerate(seeds):
        if env_id.startswith("dmc:lqr"):
            env = suite_env(env_id, seed)
        obs, rewards = suite_episode(env, seed, steps)
        apart = distance(obs, pool_obs[:, k])
        distances.append(apart[:11])
        together = max(first_divergence(apart, TOGETHER) - 1, 0)  # steps
        reward_errors.append(np.abs(rewards - pool_rewards[:, k])[:together].max(initial=0.0))
        divergences.append(first_divergence(apart))
        returns.append(rewards.sum())
        highest.append(rewards.max())
        means.append(obs.mean(axis=0))
        if k < TWINS:
            twin_divergences.append(first_divergence(distance(obs, suite_episode(env, seed, steps, PUSH)[0])))
    pool_means, suite_means = pool_obs.mean(axis=0), np.array(means)  # (N, O)
    error = np.sqrt((pool_means.var(axis=0) + suite_means.var(axis=0)) / episodes)
    z = np.abs(pool_means.mean(axis=0) - suite_means.mean(axis=0)) / np.maximum(error, 1e-9)
    pool_returns = pool_rewards.sum(axis=0, dtype=float)
    # round, because EnvPool's rewards are float32, which cannot represent the smallest rewards
    test = stats.ks_2samp(np.round(returns, 6), np.round(pool_returns, 6))
    at = np.array(distances)
    return {
        "episodes": episodes,
        "start": float(at[:, 0].max()),
        "after 1 step": float(np.median(at[:, 1])),
        "after 10 steps": float(np.median(at[:, -1])),
        "reward while together": float(np.max(reward_errors)),
        "highest reward": float(np.max(highest)),
        "apart": float(np.mean(np.array(divergences) <= steps)),
        "apart at": float(np.median(divergences[:TWINS])),
        "twins apart": float(np.mean(np.array(twin_divergences) <= steps)),
        "twins apart at": float(np.median(twin_divergences)),
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
    """Compute the missing rows of the result and print all rows."""
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from milozero.environments import dmc

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", default="", help="comma-separated full ids (default: all tasks)")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = json.loads(options.output.read_text()) if options.output.exists() else {}
    selected = [env_id for env_id in options.tasks.split(",") if env_id] or dmc.list_env_ids()
    missing = [env_id for env_id in selected if env_id not in rows]
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress, ProcessPoolExecutor(options.processes) as workers:
        bar = progress.add_task("tasks", total=len(selected), completed=len(selected) - len(missing))
        jobs = {workers.submit(compare, env_id, options.episodes, options.steps): env_id for env_id in missing}
        for job in as_completed(jobs):
            rows[jobs[job]] = job.result()
            ordered = {env_id: rows[env_id] for env_id in dmc.list_env_ids() if env_id in rows}
            options.output.write_text(json.dumps(ordered, indent=1) + "\n")
            progress.advance(bar)
    for env_id in selected:
        row = rows[env_id]
        figures = "  ".join(f"{row[key]:9.2g}" for key in ("start", "after 1 step", "after 10 steps"))
        ends = f"{row['apart at']:5.0f} {row['twins apart at']:5.0f}"
        print(f"{env_id:28} {figures}  {ends}  p {row['KS p']:.3f}  z {row['largest z of an observed mean']:.1f}")


if __name__ == "__main__":
    main()
