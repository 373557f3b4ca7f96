"""Profile an iteration: physics, inference, the rest of the rollout, update and communication.

python benchmarks/throughput.py --profile
mpiexec -n 2 python benchmarks/throughput.py --profile
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from milozero import environments
from milozero.agents import agent_class
from milozero.agents.base import AgentContext
from milozero.agents.rollout import rollout_generator
from milozero.helpers.comm import Comm, make_comm

WARM_UP, COUNTED, ROLLOUT_LEN, NUM_ENVS = 4, 20, 2048, 16
BATCH_SIZE, EPOCHS = 64, 10
MINIBATCHES = COUNTED * ROLLOUT_LEN // BATCH_SIZE * EPOCHS


class Stopwatch:
    """Sums the seconds spent in functions, excluding timed functions that they call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]  # for each running timed call, the seconds of timed calls within it

    def around(self, owner: Any, name: str, part: str) -> None:
        """Time each call of ``owner.name`` as `part`."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inside.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - started
                self.seconds[part] += elapsed - self._inside.pop()
                self._inside[-1] += elapsed

        setattr(owner, name, timed)


def measure(env_id: str, comm: Comm) -> tuple[float, dict[str, float]]:
    """Return this worker's seconds for `COUNTED` iterations, in total and for each part."""
    torch.set_num_threads(1)
    watch = Stopwatch()
    env = environments.make_vector_env(env_id, NUM_ENVS)
    cls: Any = agent_class("ppo")
    context = AgentContext(comm, num_envs=NUM_ENVS, compile=True)
    agent = cls(cls.Config(), env.observation_size, env.policy_space, context)
    watch.around(env._env, "step", "physics")
    watch.around(agent, "sample_actions", "inference")
    if comm.size > 1:
        for name in ("mean_", "sum_", "allgather"):
            watch.around(comm, name, "communication")
    watch.around(agent.optimizer, "run_epoch", "gradients and steps")
    watch.around(agent, "update", "rest of the update")
    rollouts = rollout_generator(env, agent, ROLLOUT_LEN, 0, comm.rank * NUM_ENVS)
    for k in range(WARM_UP + COUNTED):
        if k == WARM_UP:
            watch.seconds.clear()
            started = time.perf_counter()
        agent.update(next(rollouts), 0.1)
    total = time.perf_counter() - started
    return total, {"rest of the rollout": total - sum(watch.seconds.values())} | dict(watch.seconds)


def profile(env_id: str) -> None:
    """Print µs per environment step of each part, and µs per minibatch, on rank 0."""
    comm = make_comm()
    total, parts = measure(env_id, comm)
    minibatch = parts["gradients and steps"] / MINIBATCHES * 1e6
    if comm.rank == 0:
        steps = COUNTED * ROLLOUT_LEN
        print(f"{env_id}, {comm.size} worker(s): {steps * comm.size / total:,.0f} steps/s")
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
            print(f"  {name:22}{seconds / steps * 1e6:7.1f} µs/step {seconds / total:6.1%}")
        print(f"  one minibatch of {BATCH_SIZE} takes {minibatch:.0f} µs")
