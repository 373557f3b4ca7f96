"""How training scales over workers: measured where cores exist, predicted beyond.

Weak scaling keeps each worker's share (rollout_len, batch_size); strong scaling keeps the global rollout and
minibatch and divides them. The model is Hockney's: an all-reduce of `b` bytes over `n` workers takes
``2 log2(n) (latency + b / bandwidth)`` (recursive doubling), fitted to all-reduces measured here; compute is taken
as measured with one worker. It assumes that every worker has a core of its own, that nodes are joined by a network as
fast as this machine's memory unless --latency_us and --bandwidth_gbs say otherwise, and that workers do not wait
for the slowest one beyond what two workers were measured to wait.

    python benchmarks/scaling.py    # the table, benchmarks/results/scaling.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
from throughput import RESULTS, ROOT, _run, milozero  # beside this file

SIZES = (1, 1_000, 10_000, 100_000, 1_000_000)  # floats
PARAMETERS = 10_000  # of the default networks on Hopper, rounded up
MINIBATCHES = 2048 // 64 * 10


def measure_all_reduce() -> None:
    """Print the median seconds of an all-reduce of each of `SIZES`, as JSON, on rank 0 (run under mpiexec)."""
    sys.path.insert(0, str(ROOT))
    from helpers.comm import make_comm

    comm = make_comm()
    medians = []
    for size in SIZES:
        array, seconds = np.ones(size, np.float32), []
        for _ in range(300):
            started = time.perf_counter()
            comm.sum_(array)
            seconds.append(time.perf_counter() - started)
            array.fill(1.0)
        medians.append(float(np.median(seconds)))
    if comm.rank == 0:
        print(json.dumps(medians))


def fit(medians: list[float]) -> tuple[float, float]:
    """Return latency (s) and bandwidth (bytes/s) of the model, from all-reduces between two workers."""
    latency = medians[0] / 2.0
    bandwidth = 2.0 * SIZES[-1] * 4 / (medians[-1] - medians[0])
    return latency, bandwidth


def all_reduce(workers: int, latency: float, bandwidth: float) -> float:
    """Return the modelled seconds of one gradient's all-reduce."""
    return 2.0 * math.log2(workers) * (latency + PARAMETERS * 4 / bandwidth) if workers > 1 else 0.0


def predict(workers: int, one: float, wait: float, latency: float, bandwidth: float) -> float:
    """Return modelled steps per second under weak scaling.

    Args:
        workers: how many.
        one: steps per second of one worker.
        wait: seconds an iteration of two workers took beyond compute and modelled communication.
        latency: of a message, seconds.
        bandwidth: of the network, bytes per second.
    """
    iteration = 2048 / one + MINIBATCHES * all_reduce(workers, latency, bandwidth) + (wait if workers > 1 else 0.0)
    return workers * 2048 / iteration


def main() -> None:
    """Measure, fit, predict; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env_id", default="Hopper-v5")
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--latency_us", type=float, help="of the network between nodes; default: as measured here")
    parser.add_argument("--bandwidth_gbs", type=float, help="of the network between nodes; default: as measured here")
    parser.add_argument("--all_reduce", action="store_true", help="only time all-reduces (run under mpiexec)")
    args = parser.parse_args()
    if args.all_reduce:
        measure_all_reduce()
        return
    cores = len(os.sched_getaffinity(0))
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= cores]
    weak = {n: milozero(args.env_id, n, args.iterations) for n in counts}
    strong = {n: milozero(args.env_id, n, args.iterations, 2048 // n, 64 // n) for n in counts}
    medians = json.loads(_run(["mpiexec", "-n", "2", sys.executable, str(Path(__file__)), "--all_reduce"]))
    latency, bandwidth = fit(medians)
    wait = max(2 * 2048 / weak[2] - 2048 / weak[1] - MINIBATCHES * all_reduce(2, latency, bandwidth), 0.0)
    latency = args.latency_us * 1e-6 if args.latency_us else latency
    bandwidth = args.bandwidth_gbs * 1e9 if args.bandwidth_gbs else bandwidth
    counts_beyond = [2**k for k in range(1, 11)]
    predicted = {n: predict(n, weak[1], wait, latency, bandwidth) for n in counts_beyond}
    content = {
        "env_id": args.env_id,
        "weak": weak,
        "strong": strong,
        "all_reduce_seconds": dict(zip(SIZES, medians, strict=True)),
        "latency_us": latency * 1e6,
        "bandwidth_gbs": bandwidth / 1e9,
        "wait_ms_per_iteration": wait * 1e3,
        "predicted_weak": predicted,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(content, indent=2) + "\n")
    print(f"all-reduce: latency {latency * 1e6:.1f} µs, bandwidth {bandwidth / 1e9:.1f} GB/s")
    print("workers  weak (steps/s, efficiency)   strong (steps/s, efficiency)   predicted weak")
    for n in sorted({*counts, *counts_beyond}):
        columns = [
            f"{found[n]:12,.0f} {found[n] / n / found[1]:6.0%}" if n in found else " " * 19
            for found in (weak, strong)
        ]
        tail = f"{predicted[n]:14,.0f} {predicted[n] / n / weak[1]:6.0%}" if n in predicted else ""
        print(f"{n:7}  {columns[0]}          {columns[1]}        {tail}")


if __name__ == "__main__":
    main()
