"""Where an iteration's time goes: physics, inference, the rest of the rollout, update, communication.

python benchmarks/throughput.py --profile
mpiexec -n 2 python benchmarks/throughput.py --profile
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

import environments
from agents import agent_class
from agents.agent import Setting
from helpers.comm import make_comm
from helpers.rollout import rollout_generator

WARM_UP, COUNTED, ROLLOUT_LEN, NUM_ENVS = 4, 20, 2048, 16


class Stopwatch:
    """Adds up the seconds spent in functions."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def around(self, owner: Any, name: str, part: str) -> None:
        """Time each call of ``owner.name`` as `part`."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - started

        setattr(owner, name, timed)


def profile(env_id: str) -> None:
    """Print µs per environment step of each part, on rank 0."""
    torch.set_num_threads(1)
    comm = make_comm()
    watch = Stopwatch()
    env = environments.make_vector_env(env_id, NUM_ENVS, 0, comm.rank * NUM_ENVS)
    cls: Any = agent_class("ppo")
    setting = Setting(comm, num_envs=NUM_ENVS, compile=True)
    agent = cls(cls.Config(), env.observation_size, env.action_space, setting)
    watch.around(env._env, "step", "physics")
    watch.around(agent, "explore", "inference")
    for name in ("mean_", "sum_", "allgather"):
        watch.around(comm, name, "communication")
    watch.around(agent.optimizer, "learn", "minibatches")
    watch.around(agent, "update", "update")
    rollouts = rollout_generator(env, agent, ROLLOUT_LEN, 0, comm.rank * NUM_ENVS)
    for k in range(WARM_UP + COUNTED):
        if k == WARM_UP:
            watch.seconds.clear()
            started = time.perf_counter()
        agent.update(next(rollouts), 0.1)
    total = time.perf_counter() - started
    if comm.rank:
        return
    s = watch.seconds
    inside = s["communication"] if comm.size > 1 else 0.0
    parts = {
        "physics": s["physics"],
        "inference": s["inference"],
        "rest of the rollout": total - s["update"] - s["physics"] - s["inference"],
        "gradients and steps": s["minibatches"] - inside,
        "rest of the update": s["update"] - s["minibatches"],
        "communication": inside,
    }
    steps = COUNTED * ROLLOUT_LEN
    print(f"{env_id}, {comm.size} worker(s): {steps * comm.size / total:,.0f} steps/s")
    for name, seconds in parts.items():
        print(f"  {name:22}{seconds / steps * 1e6:7.1f} µs a step {seconds / total:6.1%}")
    minibatches = COUNTED * ROLLOUT_LEN // 64 * 10
    print(f"  one minibatch of 64 takes {(s['minibatches'] - inside) / minibatches * 1e6:.0f} µs")
