"""Time a PPO update on a GPU and on one CPU thread, for several network and minibatch sizes.

    python benchmarks/gpu.py        # prints the table, writes benchmarks/results/gpu.json

An update is everything between two rollouts: copying the rollout to the device, computing values and advantages, and
the epochs of compiled steps. Rollouts contain random numbers in HalfCheetah's shapes. CPU and GPU alternate within
each repeat, and the table shows medians. Physics is not included, because it always runs on the CPU.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from trainings import ROOT

sys.path.insert(0, str(ROOT))

from milozero.agents import agent_class
from milozero.agents.base import AgentContext
from milozero.agents.rollout import Rollout
from milozero.helpers.comm import Comm

RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
OBSERVATION_SIZE, ACTION_SIZE, NUM_ENVS, ROLLOUT_LEN = 17, 6, 16, 8192
EPOCHS, REPEATS = 2, 5
CASES = (("mlp_64", 64), ("mlp_64", 2048), ("mlp_256", 64), ("mlp_256", 2048), ("mlp_1024", 2048))


def some_rollout(rng: np.random.Generator) -> Rollout:
    """Create a rollout of random numbers in which no episode ends."""
    steps = ROLLOUT_LEN // NUM_ENVS
    never = np.zeros((steps, NUM_ENVS), bool)
    return Rollout(
        obs=rng.standard_normal((steps + 1, NUM_ENVS, OBSERVATION_SIZE), np.float32),
        actions=rng.standard_normal((steps, NUM_ENVS, ACTION_SIZE), np.float32),
        rewards=rng.standard_normal((steps, NUM_ENVS), np.float32),
        terminated=never,
        truncated=never,
        mask=~never,
        episodes=[],
    )


def updater(device: str, stack: str, batch_size: int, compile: bool) -> Callable[[Rollout], None]:
    """Return a function that updates an agent on a device. A first update has already compiled it."""
    cls: Any = agent_class("ppo")
    config = cls.Config(
        p_perception_stack=stack, v_perception_stack=stack, batch_size=batch_size, epochs=EPOCHS, p_lr=1e-5, v_lr=1e-5
    )
    actions = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,))
    agent = cls(
        config, OBSERVATION_SIZE, actions, AgentContext(Comm(), num_envs=NUM_ENVS, device=device, compile=compile)
    )

    def update(rollout: Rollout) -> None:
        agent.update(rollout, 0.0)  # ends by copying parameters to the CPU, which waits for the GPU

    update(some_rollout(np.random.default_rng(0)))
    return update


def measure(stack: str, batch_size: int, devices: tuple[str, ...], *, compile: bool = True) -> dict[str, Any]:
    """Return the row of a case, with the median milliseconds per minibatch of an update on each device."""
    rollout = some_rollout(np.random.default_rng(1))
    updates = {device: updater(device, stack, batch_size, compile) for device in devices}
    seconds: dict[str, list[float]] = {device: [] for device in devices}
    for _ in range(REPEATS):
        for device, update in updates.items():
            started = time.perf_counter()
            update(rollout)
            seconds[device].append(time.perf_counter() - started)
    steps = EPOCHS * (ROLLOUT_LEN // batch_size)
    return {
        "stack": stack,
        "batch_size": batch_size,
        "ms_per_minibatch": {d: round(statistics.median(s) / steps * 1e3, 4) for d, s in seconds.items()},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of docs/performance.md."""
    lines = [
        "| networks | minibatch | CPU, ms per minibatch | GPU, ms per minibatch | CPU / GPU |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cpu, gpu = (row["ms_per_minibatch"][device] for device in ("cpu", "cuda:0"))
        lines.append(f"| `{row['stack']}` | {row['batch_size']:,} | {cpu:.2f} | {gpu:.2f} | {cpu / gpu:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure each case, print the table and save the results."""
    if not torch.cuda.is_available():
        print("error: torch sees no GPU here", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    rows = []
    for stack, batch_size in CASES:
        rows.append(measure(stack, batch_size, ("cpu", "cuda:0")))
        print(rows[-1], flush=True)
    machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
