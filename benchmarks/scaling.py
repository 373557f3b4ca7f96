"""Measure how training scales with the workers that this machine has cores for, and predict 2 to 1,024 workers.

Weak scaling keeps each worker's share (rollout_len, batch_size); strong scaling divides a fixed global rollout and
minibatch among the workers. The predicted time of an iteration with n workers is the sum of

- the rollout and the minibatches of the update, as measured with one worker (a minibatch of B rows costs a + b B);
- one all-reduce of the gradient per minibatch: log2(n) rounds (recursive doubling), each costing a latency plus the
  gradient's bytes divided by the bandwidth (Hockney 1994), both fitted to all-reduces measured on this machine.
  Across nodes, the all-reduce is hierarchical, as in Open MPI's han: summed within each node, exchanged by one worker
  per node in log2(nodes) rounds with --latency_us and --bandwidth_gbs, then broadcast within each node;
- waiting for the slowest worker, once per rollout and once per minibatch: the expected maximum of n normal
  deviations (Blom 1958), with the standard deviation measured with one worker, including disturbances by the machine.

The model assumes that each worker has a core and its share of the memory bandwidth, that all nodes are equal, and
that there is no other traffic. The prediction for two workers is printed beside the measurement; the difference is
what the model omits.

    python benchmarks/scaling.py             # prints the tables, writes results/scaling.json
    python benchmarks/scaling.py --learning  # how more workers affect learning; writes results/scaling_learning.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from throughput import RESULTS, ROOT, _run, milozero  # beside this file

SIZES = (1, 1_000, 10_000, 100_000, 1_000_000)  # floats
BATCHES = (16, 64, 256)
EPOCHS = 10
OPERATOR = 10e-6  # seconds that calling an empty all-reduce adds to a single worker's minibatch
COUNTS = tuple(2**k for k in range(1, 11))


@dataclass(frozen=True)
class Model:
    """The parts of an iteration's duration; times in seconds."""

    step: float  # one environment step, including its share of the policy and of preparing the update
    rollout_deviation: float  # standard deviation of a rollout of 2,048 steps
    minibatch: float  # fixed cost of a minibatch
    row: float  # additional cost per row of a minibatch
    minibatch_deviation: float  # standard deviation of a minibatch
    operator: float  # calling the all-reduce from compiled code
    latency: float  # per message within a node
    bandwidth: float  # within a node, bytes/s
    far_latency: float  # between nodes
    far_bandwidth: float
    cores: int  # workers per node
    parameters: int

    def all_reduce(self, workers: int) -> float:
        """Return the seconds of an all-reduce of the gradient."""
        if workers == 1:
            return 0.0
        size, nodes = self.parameters * 4, max(workers / self.cores, 1.0)
        near = math.log2(min(workers, self.cores)) * (self.latency + size / self.bandwidth)
        far = math.log2(nodes) * (self.far_latency + size / self.far_bandwidth)
        return self.operator + (near if nodes == 1 else 2 * near + far)

    def iteration(self, workers: int, rollout_len: int, batch_size: int) -> float:
        """Return the seconds of an iteration in which each worker has this rollout and minibatch."""
        minibatches = EPOCHS * rollout_len // batch_size
        # the standard deviation of a sum of independent steps grows with the root of their number
        waiting = self.rollout_deviation * math.sqrt(rollout_len / 2048) * expected_largest(workers)
        waiting += minibatches * self.minibatch_deviation * expected_largest(workers)
        update = minibatches * (self.minibatch + self.row * batch_size + self.all_reduce(workers))
        return rollout_len * self.step + update + waiting

    def speed(self, workers: int, rollout_len: int = 2048, batch_size: int = 64) -> float:
        """Return environment steps per second over all workers."""
        return workers * rollout_len / self.iteration(workers, rollout_len, batch_size)


def expected_largest(n: int) -> float:
    """Return the expected maximum of n standard normal deviations (Blom 1958); 0 if n is 1."""
    return statistics.NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) if n > 1 else 0.0


def fit_network(medians: list[float]) -> tuple[float, float]:
    """Fit latency (s) and bandwidth (bytes/s) of a round to all-reduces of `SIZES` between two workers."""
    small, gradient = medians[0], medians[SIZES.index(10_000)]
    return small, 10_000 * 4 / max(gradient - small, 1e-9)


def fit_minibatch(seconds: dict[int, float]) -> tuple[float, float]:
    """Fit the seconds of minibatches of B rows by a least-squares line a + b B; return (a, b)."""
    b, a = np.polyfit(list(seconds), list(seconds.values()), 1)
    return float(a), float(b)


def measure_all_reduce() -> None:
    """Print the median seconds of an all-reduce for each of `SIZES` as JSON on rank 0 (run under mpiexec)."""
    from milozero.helpers.comm import make_comm

    comm = make_comm()
    medians = []
    for size in SIZES:
        array, seconds = np.ones(size, np.float32), []
        for _ in range(1000):
            started = time.perf_counter()
            comm.sum_(array)
            seconds.append(time.perf_counter() - started)
            array.fill(1.0)
        medians.append(float(np.median(seconds)))
    if comm.rank == 0:
        print(json.dumps(medians))


def measure_worker(env_id: str) -> None:
    """Print means and standard deviations of one worker's rollouts and minibatches as JSON."""
    import torch

    from milozero import environments
    from milozero.agents import agent_class
    from milozero.agents.base import AgentContext
    from milozero.agents.learning.optimizer import STEPS_PER_CALL
    from milozero.agents.rollout import rollout_generator
    from milozero.helpers.comm import Comm

    torch.set_num_threads(1)
    cls: Any = agent_class("ppo")
    minibatches, deviations, iterations = {}, {}, []
    for batch_size in BATCHES:
        env = environments.make_vector_env(env_id, 16)
        agent = cls(
            cls.Config(batch_size=batch_size),
            env.observation_size,
            env.policy_space,
            AgentContext(Comm(), num_envs=16, compile=True),
        )
        calls: list[float] = []
        train_steps = agent.optimizer._train_steps

        def timed(*arguments: Any, train_steps: Any = train_steps, calls: list[float] = calls) -> None:
            started = time.perf_counter()
            train_steps(*arguments)
            calls.append(time.perf_counter() - started)

        agent.optimizer._train_steps = timed
        rollouts = rollout_generator(env, agent, 2048, 0)
        for k in range(24):
            if k == 4:
                calls.clear()
                iterations.clear()
            before = sum(calls)
            started = time.perf_counter()
            rollout = next(rollouts)
            collected = time.perf_counter() - started
            agent.update(rollout, 0.1)
            iterations.append((collected, time.perf_counter() - started - (sum(calls) - before)))
        minibatches[batch_size] = statistics.fmean(calls) / STEPS_PER_CALL
        deviations[batch_size] = statistics.stdev(calls) / math.sqrt(STEPS_PER_CALL)
    rollout_seconds, outside = zip(*iterations, strict=True)
    content = {
        "step": statistics.fmean(outside) / 2048,
        "rollout_deviation": statistics.stdev(rollout_seconds),
        "minibatches": minibatches,
        "minibatch_deviation": deviations[64],
        "parameters": agent.optimizer.params.vector.numel(),
        "step_of_num_envs": {num_envs: time_rollouts(env_id, num_envs) for num_envs in (8, 16, 32, 64)},
    }
    print(json.dumps(content))


def time_rollouts(env_id: str, num_envs: int) -> float:
    """Return the seconds per environment step of a rollout with `num_envs` environments."""
    from rollout import make_agent  # beside this file

    from milozero.agents.rollout import rollout_generator

    rollouts = rollout_generator(*make_agent(env_id, num_envs), 2048, 0)
    next(rollouts)
    seconds = []
    for _ in range(12):
        started = time.perf_counter()
        next(rollouts)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) / 2048


def measure_model(args: argparse.Namespace) -> tuple[Model, dict[str, float]]:
    """Measure this machine.

    Returns:
        The model, with the network between nodes given on the command line, and the seconds per environment step of
        a rollout for several numbers of environments.
    """
    this = [sys.executable, str(Path(__file__)), f"--env_id={args.env_id}"]
    measured = json.loads(_run([*this, "--worker"]).splitlines()[-1])
    latency, bandwidth = fit_network(json.loads(_run(["mpiexec", "-n", "2", *this, "--all_reduce"]).splitlines()[-1]))
    a, b = fit_minibatch({int(size): seconds for size, seconds in measured["minibatches"].items()})
    model = Model(
        step=measured["step"],
        rollout_deviation=measured["rollout_deviation"],
        minibatch=a,
        row=b,
        minibatch_deviation=measured["minibatch_deviation"],
        operator=OPERATOR,
        latency=latency,
        bandwidth=bandwidth,
        far_latency=args.latency_us * 1e-6,
        far_bandwidth=args.bandwidth_gbs * 1e9,
        cores=args.cores,
        parameters=measured["parameters"],
    )
    return model, measured["step_of_num_envs"]


def scale(args: argparse.Namespace) -> None:
    """Measure, fit and predict; print and save the tables."""
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= len(os.sched_getaffinity(0))]
    model, steps = measure_model(args)
    weak = {n: milozero(args.env_id, n, args.iterations) for n in counts}
    strong = {n: milozero(args.env_id, n, args.iterations, 2048 // n, 64 // n) for n in counts}
    slow = replace(model, far_latency=25e-6, far_bandwidth=1.1e9)
    flags = {
        "default": (2048, 64),
        "rollout_len=8192": (8192, 64),
        "batch_size=256": (2048, 256),
        "rollout_len=8192, batch_size=256": (8192, 256),
    }
    table = {n: {name: model.speed(n, *share) for name, share in flags.items()} for n in (1, *COUNTS)}
    content = {
        "env_id": args.env_id,
        "weak": weak,
        "strong": strong,
        "model": asdict(model),
        "step_of_num_envs": steps,
        "predicted_weak": table,
        "predicted_weak_on_10_gbit_ethernet": {n: slow.speed(n) for n in (1, *COUNTS)},
        "predicted_strong": {n: model.speed(n, max(2048 // n, 16), max(64 // n, 1)) for n in (1, *COUNTS) if n <= 64},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(content, indent=2) + "\n")
    print("model:", ", ".join(f"{name} {value:.3g}" for name, value in asdict(model).items()))
    print("rollout step by num_envs:", ", ".join(f"{n}: {seconds * 1e6:.1f} µs" for n, seconds in steps.items()))
    for title, rows in (("weak", weak), ("strong", strong)):
        for n, speed in rows.items():
            share = (2048, 64) if title == "weak" else (2048 // n, 64 // n)
            efficiency, predicted = speed / n / rows[1], model.speed(n, *share)
            print(f"{title} {n}: {speed:,.0f} steps/s, efficiency {efficiency:.0%}, predicted {predicted:,.0f}")
    print("predicted steps/s (efficiency):")
    for n, row in table.items():
        cells = "  ".join(f"{name} {v:,.0f} ({v / n / table[1][name]:.0%})" for name, v in row.items())
        print(f"{n:5}  {cells}  10 Gbit {slow.speed(n):,.0f} ({slow.speed(n) / n / slow.speed(1):.0%})")


def learn(env_id: str, workers: int, batch_size: int, seed: int, steps: float) -> float:
    """Return the final evaluation return of a run that is equivalent to training with `workers` workers.

    A single worker gets `workers` times the environments, rollout and minibatch. Its gradients are the same as those
    of `workers` workers (tests/integration/test_workers.py compares them), but it needs only one core.
    """
    with tempfile.TemporaryDirectory() as folder:
        flags = [
            f"--num_envs={16 * workers}",
            f"--rollout_len={2048 * workers}",
            f"--batch_size={batch_size * workers}",
        ]
        flags += [f"--env_id={env_id}", f"--num_timesteps={steps}", f"--seed={seed}", f"--data_dir={folder}"]
        flags += ["--uuid=x", "--eval_frequency=0", "--eval_episodes=50"]
        printed = _run([sys.executable, "main.py", "--task=train", *flags])
    match = re.search(r"evaluation return: last (\S+),", printed)
    assert match, printed
    return float(match[1])


def study_learning(args: argparse.Namespace) -> None:
    """Train as with 1 to 64 workers for the same number of steps; print and save the final returns.

    One run per core. Saved results are kept, so that an interrupted study resumes.
    """
    path = RESULTS / "scaling_learning.json"
    results: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}

    def run(seed: int, workers: int, batch_size: int) -> None:
        name = f"{args.env_id}, {args.steps:g} steps, {workers} worker(s), batch_size {batch_size}"
        returns = results.setdefault(name, {})
        if str(seed) not in returns:
            returns[str(seed)] = learn(args.env_id, workers, batch_size, seed, args.steps)
            path.write_text(json.dumps(results, indent=2) + "\n")
        print(f"{workers} worker(s), batch_size {batch_size}, seed {seed}: {returns[str(seed)]:.0f}", flush=True)

    RESULTS.mkdir(exist_ok=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as cores:
        runs = [
            cores.submit(run, seed, workers, batch_size)
            for workers, batch_size in ((1, 64), (4, 64), (16, 64), (16, 4), (64, 64))
            for seed in range(args.seeds)
        ]
        for finished in runs:
            finished.result()


def main() -> None:
    """Parse the command line and run the selected benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env_id", default="Hopper-v5")
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--latency_us", type=float, default=2.0, help="latency between nodes (default: InfiniBand)")
    parser.add_argument("--bandwidth_gbs", type=float, default=10.0, help="GB/s between nodes (default: InfiniBand)")
    parser.add_argument("--cores", type=int, default=64, help="workers per node")
    parser.add_argument("--learning", action="store_true", help="measure how more workers affect learning")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of --learning")
    parser.add_argument("--steps", type=float, default=1e6, help="environment steps of --learning, over all workers")
    parser.add_argument("--all_reduce", action="store_true", help="only time all-reduces (run under mpiexec)")
    parser.add_argument("--worker", action="store_true", help="only time one worker")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.all_reduce:
        measure_all_reduce()
    elif args.worker:
        measure_worker(args.env_id)
    elif args.learning:
        study_learning(args)
    else:
        scale(args)


if __name__ == "__main__":
    main()
