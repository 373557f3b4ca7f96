"""GAIL from the `imitation` library, for imitation_speed.py; prints one JSON line."""

from __future__ import annotations

import argparse
import json
import time

import gymnasium
import numpy as np
import torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import TrajectoryWithRew
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util.logger import configure
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

NUM_ENVS = 8
WARM_UP = 2  # rounds


def main() -> None:
    """Train and print steps per second after the first two rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--demos", required=True, help=".npz file with obs{k} (L+1, O) and acs{k} (L, A) of each episode k"
    )
    parser.add_argument("--steps", type=int, required=True, help="environment steps per round")
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(args.demos) as file:
        episodes = [
            TrajectoryWithRew(
                file[f"obs{k}"], file[f"acs{k}"], None, terminal=True, rews=np.zeros(len(file[f"acs{k}"]))
            )
            for k in range(len(file.files) // 2)
        ]
    venv = DummyVecEnv([lambda: gymnasium.make("Hopper-v4")] * NUM_ENVS)
    own = {"n_steps": args.steps // NUM_ENVS, "batch_size": args.batch_size, "n_epochs": args.epochs}
    gail = GAIL(
        demonstrations=episodes,
        demo_batch_size=128,
        gen_replay_buffer_capacity=4096,
        n_disc_updates_per_round=8,  # these three: the library's tuned settings for Hopper
        venv=venv,
        gen_algo=PPO("MlpPolicy", venv, device="cpu", seed=0, **own),
        reward_net=BasicRewardNet(venv.observation_space, venv.action_space, normalize_input_layer=RunningNorm),
        custom_logger=configure(format_strs=[]),
        allow_variable_horizon=True,
    )
    marks: list[float] = []
    gail.train(args.steps * args.rounds, callback=lambda _: marks.append(time.perf_counter()))
    seconds = marks[-1] - marks[WARM_UP - 1]
    print(json.dumps({"steps_per_second": args.steps * (len(marks) - WARM_UP) / seconds}))


if __name__ == "__main__":
    main()
