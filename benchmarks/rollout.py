"""Compare rollouts: this project's, EnvPool without a policy, and two overlapping halves.

With overlapping halves, the policy computes actions for one half of the environments while the simulator steps the
other. This hides the policy's time if the worker has a second core to itself; otherwise it only doubles the overhead
of vector steps. Each way is therefore measured with one worker, and with one worker on every core at the same time.

    python benchmarks/rollout.py        # prints the results, writes benchmarks/results/rollout.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from throughput import ENVIRONMENT, RESULTS, ROOT

NUM_ENVS, STEPS = 16, 128
WAYS = ("envpool", "rollout", "halves")


def step_envpool(env_id: str) -> Callable[[], None]:
    """Return a function that takes a rollout's number of random steps through EnvPool's gymnasium API."""
    import envpool

    pool = envpool.make(env_id, env_type="gymnasium", num_envs=NUM_ENVS, seed=0, num_threads=1)
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, NUM_ENVS, *pool.action_space.shape))
    pool.reset()

    def run() -> None:
        for action in actions:
            pool.step(action)

    return run


def make_agent(env_id: str, num_envs: int) -> tuple[Any, Any]:
    """Create this project's environments and a new agent."""
    from milozero import environments
    from milozero.agents import agent_class
    from milozero.agents.base import AgentContext
    from milozero.helpers.comm import Comm

    env = environments.make_vector_env(env_id, num_envs)
    cls: Any = agent_class("ppo")
    return env, cls(cls.Config(), env.observation_size, env.policy_space, AgentContext(Comm(), num_envs=num_envs))


def collect(env_id: str) -> Callable[[], None]:
    """Return a function that collects a rollout with this project's code."""
    from milozero.agents.rollout import rollout_generator

    rollouts = rollout_generator(*make_agent(env_id, NUM_ENVS), STEPS * NUM_ENVS, 0)

    def run() -> None:
        next(rollouts)

    return run


def collect_in_halves(env_id: str) -> Callable[[], None]:
    """Return a function that collects a rollout with EnvPool's send and recv, half of the environments at a time."""
    import envpool

    half = NUM_ENVS // 2
    _, agent = make_agent(env_id, half)
    pool = envpool.make(env_id, env_type="gymnasium", num_envs=NUM_ENVS, batch_size=half, seed=0, num_threads=1)
    names = list(pool._state_keys)
    which, obs, reward = (names.index(name) for name in ("info:env_id", "obs", "reward"))
    low, high, size = pool.action_space.low, pool.action_space.high, pool.action_space.shape[0]
    rng, kept = np.random.default_rng(0), [np.empty(0)] * 3 * 2 * STEPS
    pool.async_reset()

    def run() -> None:
        noise = rng.standard_normal((2 * STEPS, half, size), np.float32)
        for t in range(2 * STEPS):
            state = pool._recv()
            action = agent.sample_actions(state[obs], noise[t])
            kept[3 * t : 3 * t + 3] = state[obs].astype(np.float32), action, state[reward]
            pool._send([state[which], state[which], np.clip(action, low, high).astype(np.float64)])

    return run


def measure(env_id: str, way: str, seconds: float = 4.0) -> float:
    """Measure one of `WAYS` in this process; return environment steps per second."""
    import torch

    torch.set_num_threads(1)
    run = {"envpool": step_envpool, "rollout": collect, "halves": collect_in_halves}[way](env_id)
    run()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        run()
        count += 1
    return count * STEPS * NUM_ENVS / (time.perf_counter() - started)


def together(env_id: str, way: str, workers: int) -> float:
    """Return the total steps per second of `workers` processes that run at the same time."""
    command = [sys.executable, str(ROOT / "benchmarks/rollout.py"), f"--envs={env_id}", f"--way={way}"]
    processes = [
        subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) for _ in range(workers)
    ]
    return sum(float(process.communicate()[0].splitlines()[-1]) for process in processes)


def compare(env_id: str, repeats: int) -> dict[str, dict[str, float]]:
    """Return median steps per second and ratios, for one worker and for one worker on every core."""
    results = {}
    for workers in (1, len(os.sched_getaffinity(0))):
        rows = [{way: together(env_id, way, workers) for way in WAYS} for _ in range(repeats)]
        medians = {way: statistics.median(row[way] for row in rows) for way in WAYS}
        medians["rollout / envpool"] = statistics.median(row["rollout"] / row["envpool"] for row in rows)
        medians["halves / rollout"] = statistics.median(row["halves"] / row["rollout"] for row in rows)
        results[f"{workers} worker(s)"] = medians
    return results


def main() -> None:
    """Measure, print and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="only measure this one and print steps per second")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.way:
        print(measure(args.envs[0], args.way))
        return
    results = {env_id: compare(env_id, args.repeats) for env_id in args.envs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rollout.json").write_text(json.dumps(results, indent=2) + "\n")
    for env_id, rows in results.items():
        for workers, medians in rows.items():
            speeds = ", ".join(f"{way} {medians[way]:,.0f}" for way in WAYS)
            ratios = ", ".join(f"{name} {value:.2f}" for name, value in medians.items() if "/" in name)
            print(f"{env_id}, {workers}: {speeds} steps/s; {ratios}")


if __name__ == "__main__":
    main()
