"""Train and evaluate an agent of Stable-Baselines3 or SBX for some minutes; race.py runs it, one process per run.

Prints a JSON line for each of --minutes. Settings: rl-zoo3's for these tasks (hyperparams/*.yml, their v3 or v4
versions), which are the libraries' defaults where it has none. SBX runs in an environment of its own, so this file
imports nothing of this project.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import gymnasium
import numpy as np

# algorithm → environment, or "" for all others → arguments
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "sac": {"": {"learning_starts": 10_000}},
    "td3": {
        "": {
            "learning_starts": 10_000,
            "learning_rate": 1e-3,
            "batch_size": 256,
            "train_freq": 1,
            "gradient_steps": 1,
            "action_noise": 0.1,  # standard deviation
            "policy_kwargs": {"net_arch": [400, 300]},
        }
    },
    "ppo": {
        "": {},
        "HalfCheetah-v5": {
            "batch_size": 64,
            "n_steps": 512,
            "gamma": 0.98,
            "learning_rate": 2.0633e-05,
            "ent_coef": 0.000401762,
            "clip_range": 0.1,
            "n_epochs": 20,
            "gae_lambda": 0.92,
            "max_grad_norm": 0.8,
            "vf_coef": 0.58096,
            "policy_kwargs": "tuned",
        },
        "Humanoid-v5": {
            "batch_size": 256,
            "n_steps": 512,
            "gamma": 0.95,
            "learning_rate": 3.56987e-05,
            "ent_coef": 0.00238306,
            "clip_range": 0.3,
            "n_epochs": 5,
            "gae_lambda": 0.9,
            "max_grad_norm": 2,
            "vf_coef": 0.431892,
            "policy_kwargs": "tuned",
        },
    },
}


def make_model(library: str, algo: str, env_id: str, seed: int) -> Any:
    """Return the untrained model; PPO normalizes observations and rewards, as in rl-zoo3."""
    settings = dict(SETTINGS[algo].get(env_id, SETTINGS[algo][""]))
    if library == "sbx":
        import sbx as models
    else:
        import stable_baselines3 as models
        import torch

        torch.set_num_threads(1)
        if settings.get("policy_kwargs") == "tuned":
            layers = {"pi": [256, 256], "vf": [256, 256]}
            settings["policy_kwargs"] = {
                "log_std_init": -2,
                "ortho_init": False,
                "activation_fn": torch.nn.ReLU,
                "net_arch": layers,
            }
    from stable_baselines3.common.noise import NormalActionNoise
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    make = lambda: gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(env_id))  # noqa: E731
    env: Any = DummyVecEnv([make])
    if algo == "ppo":
        env = VecNormalize(env, gamma=settings.get("gamma", 0.99))
    if "action_noise" in settings:
        size = env.action_space.shape[0]
        settings["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, settings["action_noise"]))
    return getattr(models, algo.upper())("MlpPolicy", env, seed=seed, device="cpu", **settings)


def evaluate(model: Any, env_id: str, episodes: int, seed: int) -> list[float]:
    """Return the returns of episodes with deterministic actions."""
    env, normalizer, returns = gymnasium.make(env_id), model.get_vec_normalize_env(), []
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + 10_000 * episode)
        total, done = 0.0, False
        while not done:
            seen = normalizer.normalize_obs(obs) if normalizer else obs
            obs, reward, terminated, truncated, _ = env.step(model.predict(seen, deterministic=True)[0])
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return returns


def main() -> None:
    """Train until the last deadline, and print a line at each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=["sb3", "sbx"], required=True)
    parser.add_argument("--algo", choices=list(SETTINGS), required=True)
    parser.add_argument("--env_id", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--started", type=float, required=True, help="time() when this process was started")
    parser.add_argument("--episodes", type=int, required=True)
    parser.add_argument("--eval_seed", type=int, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", required=True)
    options = parser.parse_args()

    from stable_baselines3.common.callbacks import BaseCallback

    class Deadlines(BaseCallback):
        """Evaluates the policy at each deadline and ends training at the last; evaluations do not count."""

        def _init_callback(self) -> None:
            self.left: list[float] = sorted(options.minutes)
            self.curve: list[tuple[float, float]] = []  # minutes and returns of the episodes
            self.evaluating = 0.0  # seconds

        def _on_step(self) -> bool:
            seconds = time.time() - options.started - self.evaluating
            for info in self.locals["infos"]:
                if "episode" in info:
                    self.curve.append((seconds / 60, float(info["episode"]["r"])))
            if seconds / 60 >= self.left[0]:
                start = time.time()
                returns = evaluate(self.model, options.env_id, options.episodes, options.eval_seed)
                row = {
                    "minutes": self.left.pop(0),
                    "return": round(float(np.mean(returns)), 1),
                    "std": round(float(np.std(returns)), 1),
                    "steps": self.num_timesteps,
                    "seconds": round(seconds),
                    "curve": self.curve,
                }
                print(json.dumps(row), flush=True)
                self.evaluating += time.time() - start
            return bool(self.left)

    model = make_model(options.library, options.algo, options.env_id, options.seed)
    model.learn(10**9, callback=Deadlines())


if __name__ == "__main__":
    main()
