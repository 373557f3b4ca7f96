"""Stable-Baselines3's PPO with the benchmark's settings; prints one JSON line. throughput.py runs it."""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env


class Clock(BaseCallback):
    """Records when each rollout and each update starts."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[float, int]] = []
        self.updates: list[float] = []  # start times

    def _on_rollout_start(self) -> None:
        self.marks.append((time.perf_counter(), self.num_timesteps))

    def _on_rollout_end(self) -> None:
        self.updates.append(time.perf_counter())

    def _on_step(self) -> bool:
        return True


def main() -> None:
    """Train and print steps per second and µs per minibatch after the first two iterations."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env_id", required=True)
    parser.add_argument("--num_envs", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    env = make_vec_env(args.env_id, args.num_envs, seed=0)
    settings = {"n_steps": 2048 // args.num_envs, "batch_size": 64, "n_epochs": 10, "device": "cpu", "seed": 0}
    clock = Clock()
    PPO("MlpPolicy", env, **settings).learn(2048 * args.iterations, callback=clock)
    (start, first), (end, last) = clock.marks[2], clock.marks[-1]
    updates = [after - before for before, (after, _) in zip(clock.updates[2:], clock.marks[3:], strict=False)]
    minibatch = statistics.median(updates) / (2048 // 64 * 10)
    print(json.dumps({"steps_per_second": (last - first) / (end - start), "minibatch_us": minibatch * 1e6}))


if __name__ == "__main__":
    main()
