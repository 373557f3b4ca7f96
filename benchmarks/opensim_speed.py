"""Measure control steps per second of the OpenSim environments on one core, with both presets.

``python benchmarks/opensim_speed.py`` takes two minutes and writes ``benchmarks/results/opensim_speed.json``. The
presets alternate, so that changes in the machine's speed affect both.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
from throughput import ROOT

ROUNDS, STEPS = 5, 100


def measure_speed(env: object, seed: int) -> float:
    """Return control steps per second with random excitations, including resets."""
    env = env.unwrapped  # type: ignore[attr-defined]
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    started = time.perf_counter()
    for _ in range(STEPS):
        _, _, terminated, truncated, _ = env.step(rng.uniform(0, 1, env.action_space.shape))
        if terminated or truncated:
            env.reset(seed=seed)
    return STEPS / (time.perf_counter() - started)


def main() -> None:
    """Measure, print and save a row for each environment."""
    sys.path.insert(0, str(ROOT))
    from milozero import environments
    from milozero.environments.opensim.suite import TASKS
    from milozero.helpers.files import write_bytes

    results = {}
    for env_id in TASKS:
        envs = {preset: environments.make_env(env_id, None, {"preset": preset}) for preset in ("train", "accurate")}
        speeds: dict[str, list[float]] = {preset: [] for preset in envs}
        for seed in range(ROUNDS):
            for preset, env in envs.items():
                speeds[preset].append(measure_speed(env, seed))
        row = {preset: round(statistics.median(values)) for preset, values in speeds.items()}
        results[env_id] = row | {"ratio": round(row["train"] / row["accurate"], 2)}
        print(env_id, results[env_id], flush=True)
    text = json.dumps(results, indent=2) + "\n"
    write_bytes(ROOT / "benchmarks" / "results" / "opensim_speed.json", text.encode())


if __name__ == "__main__":
    main()
