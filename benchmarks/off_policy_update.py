"""Time updates of SAC or TD3 in one library; prints one JSON line per process. off_policy_speed.py runs it.

The replay buffer holds random numbers in HalfCheetah's shapes. SBX runs in an environment of its own, so this file
imports each library only where it is used.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OBSERVATION_SIZE, ACTION_SIZE, FILLED, UPDATES, ROUNDS = 17, 6, 20_000, 64, 7
LEARNING_RATE = 3e-4


def milozero(algo: str, batch_size: int) -> Callable[[], None]:
    """Return a function that makes `UPDATES` updates with MiloZero, on each worker; compiled already."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import gymnasium

    from milozero.agents import agent_class
    from milozero.agents.base import AgentContext
    from milozero.agents.replay_buffer import Steps
    from milozero.agents.rollout import Rollout
    from milozero.helpers.comm import make_comm

    cls: Any = agent_class(algo)
    comm = make_comm()
    # One step of one environment is due as many updates as are timed.
    settings = {"train_freq": 16, "updates_per_step": UPDATES / 16 / comm.size, "normalize_observations": False}
    actions = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,))
    config = cls.Config(batch_size=batch_size, learning_starts=0, **settings)
    agent = cls(config, OBSERVATION_SIZE, actions, AgentContext(comm, num_envs=16, compile=True))

    rng = np.random.default_rng(comm.rank)

    def random_rollout(length: int) -> Rollout:
        obs = rng.standard_normal((length + 1, 16, OBSERVATION_SIZE), np.float32)
        acts = rng.uniform(-1, 1, (length, 16, ACTION_SIZE)).astype(np.float32)
        never = np.zeros((length, 16), bool)
        return Rollout(obs, acts, rng.standard_normal(never.shape, np.float32), never, never, ~never, [])

    filling, rollout = random_rollout(FILLED // 16), random_rollout(1)
    agent.replay_buffer.add(Steps(*(getattr(filling, name) for name in Steps._fields)))
    update = lambda: agent.update(rollout, 0.0)  # noqa: E731
    update()
    return update


def peer(library: str, algo: str, batch_size: int) -> Callable[[], None]:
    """Return a function that makes `UPDATES` updates with Stable-Baselines3 or SBX, compiled already."""
    import gymnasium

    models = importlib.import_module("stable_baselines3" if library == "sb3" else "sbx")

    class Env(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return np.zeros(OBSERVATION_SIZE, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(OBSERVATION_SIZE, np.float32), 0.0, False, False, {}

    layers = {"net_arch": [256, 256]}
    model = getattr(models, algo.upper())(
        "MlpPolicy", Env(), learning_rate=LEARNING_RATE, batch_size=batch_size, policy_kwargs=layers, seed=0
    )
    model.learn(1)  # sets up what `train` needs
    rng = np.random.default_rng(0)
    for _ in range(FILLED):
        obs, following = rng.standard_normal((2, 1, OBSERVATION_SIZE), np.float32)
        action = rng.uniform(-1, 1, (1, ACTION_SIZE)).astype(np.float32)
        model.replay_buffer.add(obs, following, action, rng.standard_normal(1), np.zeros(1), [{}])

    def update() -> None:
        if library == "sb3":
            model.train(gradient_steps=UPDATES, batch_size=batch_size)
        else:
            model.train(UPDATES, batch_size)

    update()
    return update


def main() -> None:
    """Print the median milliseconds per update."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=["milozero", "sb3", "sbx"], required=True)
    parser.add_argument("--algo", choices=["sac", "td3"], required=True)
    parser.add_argument("--batch_size", type=int, default=256)
    options = parser.parse_args()
    make = milozero if options.library == "milozero" else lambda *rest: peer(options.library, *rest)
    update = make(options.algo, options.batch_size)
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        update()
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"ms_per_update": statistics.median(seconds) / UPDATES * 1e3}), flush=True)


if __name__ == "__main__":
    main()
