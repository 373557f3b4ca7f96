"""Environments that a user might bring: ``--env_id=tests.support.user_envs:Bounded-v0``."""

from __future__ import annotations

import os
import time

import gymnasium
import numpy as np


class Bounded(gymnasium.Env):
    """Ten steps; the reward is how near the action is to the observation."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def _obs(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.obs = 10, self._obs()
        return self.obs, {}

    def step(self, action):
        assert (np.abs(action) <= 1).all()
        reward = -float(np.square(action - self.obs).sum())
        self.left, self.obs = self.left - 1, self._obs()
        return self.obs, reward, self.left == 0, False, {}


class Breaking(Bounded):
    """Raises in the 40th step on rank 1, while rank 0 is slow."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 40 and os.environ.get("OMPI_COMM_WORLD_RANK") == "1":
            raise RuntimeError("the simulator broke")
        time.sleep(0.002)
        return super().step(action)


class Unfinite(Bounded):
    """Returns a NaN reward after a while."""

    steps = 0

    def step(self, action):
        self.steps += 1
        obs, reward, *rest = super().step(action)
        return obs, float("nan") if self.steps == 100 else reward, *rest


class UnfiniteOnOne(Bounded):
    """Returns an infinite observation after a while, on rank 1 alone."""

    steps = 0

    def step(self, action):
        self.steps += 1
        obs, *rest = super().step(action)
        bad = self.steps == 100 and os.environ.get("OMPI_COMM_WORLD_RANK") == "1"
        return np.full_like(obs, np.inf) if bad else obs, *rest


class Hanging(Bounded):
    """Never returns from its 40th step on rank 1, or on the only one."""

    steps = 0

    def step(self, action):
        self.steps += 1
        while self.steps == 40 and os.environ.get("OMPI_COMM_WORLD_RANK") != "0":
            time.sleep(0.1)
        return super().step(action)


class Forgetful(Bounded):
    """Takes no notice of its seed."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None, options=options)


class Slow(Bounded):
    """A step takes 5 ms, so that a test can act while it trains."""

    def step(self, action):
        time.sleep(0.005)
        return super().step(action)


# Small iterations of `Slow`, a sixth of a second each.
SLOW_TRAINING = (
    "--task=train",
    "--env_id=tests.support.user_envs:Slow-v0",
    "--num_envs=2",
    "--rollout_len=32",
    "--batch_size=32",
    "--epochs=1",
    "--no-compile",
    "--eval_frequency=0",
    "--eval_episodes=1",
)


class Aborting(Bounded):
    """Ends its process where a simulator's C code would: in its constructor, its first reset or where it draws."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, where="", how="abort", render_mode=None):
        self.where, self.how, self.render_mode = where, how, render_mode
        self._end("init")

    def _end(self, place):
        if self.where == place:
            os.abort() if self.how == "abort" else os._exit(7)

    def reset(self, *, seed=None, options=None):
        self._end("reset")
        return super().reset(seed=seed)

    def render(self):
        self._end("render")
        return np.zeros((64, 64, 3), np.uint8)


for cls in (Bounded, Breaking, Unfinite, UnfiniteOnOne, Hanging, Forgetful, Slow, Aborting):
    gymnasium.register(f"{cls.__name__}-v0", cls, max_episode_steps=7 if cls is Bounded else None)
