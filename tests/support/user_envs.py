"""Environments that a user might bring: ``--env_id=tests.support.user_envs:Bounded-v0``."""

from __future__ import annotations

import os
import random
import time

import gymnasium
import numpy as np
import torch


class Bounded(gymnasium.Env):
    """Ten steps; the reward is minus the squared distance between action and observation."""

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


class Checked(gymnasium.Env):
    """Ten steps of random observations; accepts only actions in its action space."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.left = 10
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"not in the space: {action!r}"
        self.left -= 1
        return self.observation_space.sample(), 1.0, self.left == 0, False, {}


class Target(gymnasium.Env):
    """One step; the reward falls with the distance from 3/4 of the way from `low` to `high`.

    0 is perfect, -0.25 the middle of the bounds, -0.75 the lower one.
    """

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, low=100.0, high=300.0):
        self.low, self.high = low, high
        self.action_space = gymnasium.spaces.Box(low, high, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 1).astype(np.float32), {}

    def step(self, action):
        share = (float(action[0]) - self.low) / (self.high - self.low)
        return np.zeros(1, np.float32), -abs(share - 0.75), True, False, {}


class Breaking(Bounded):
    """Raises in the 40th step on rank 1, while rank 0 is slow."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 40 and os.environ.get("OMPI_COMM_WORLD_RANK") == "1":
            raise RuntimeError("the simulator broke")
        time.sleep(0.002)
        return super().step(action)


class NonFinite(Bounded):
    """Returns a NaN reward in its 100th step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        obs, reward, *rest = super().step(action)
        return obs, float("nan") if self.steps == 100 else reward, *rest


class NonFiniteOnOne(Bounded):
    """Returns an infinite observation in its 100th step, on rank 1 only."""

    steps = 0

    def step(self, action):
        self.steps += 1
        obs, *rest = super().step(action)
        bad = self.steps == 100 and os.environ.get("OMPI_COMM_WORLD_RANK") == "1"
        return np.full_like(obs, np.inf) if bad else obs, *rest


class Hanging(Bounded):
    """Hangs in its 40th step, on rank 1 or on the only worker."""

    steps = 0

    def step(self, action):
        self.steps += 1
        while self.steps == 40 and os.environ.get("OMPI_COMM_WORLD_RANK") != "0":
            time.sleep(0.1)
        return super().step(action)


class Forgetful(Bounded):
    """Ignores its seed."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None, options=options)


class DrawsGlobally(Bounded):
    """Draws from the global generators; a third of the steps end the episode."""

    def _obs(self):
        return np.array([random.uniform(-1, 1), np.tanh(np.random.randn())], np.float32)  # noqa: NPY002

    def step(self, action):
        obs, reward, *_ = super().step(action)
        return obs, reward, float(torch.rand(())) < 1 / 3, False, {}


class Slow(Bounded):
    """A step takes 5 ms, so that a test can act while it trains."""

    def step(self, action):
        time.sleep(0.005)
        return super().step(action)


class SameArray(Bounded):
    """Observes the step, in one array that all instances write into, and zeroes the action it receives."""

    state = np.zeros(2, np.float32)

    def _obs(self):
        return self.state

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state[:] = 0
        return self.state, {}

    def step(self, action):
        _, reward, terminated, truncated, info = super().step(action)
        self.state[:] = 10 - self.left
        action *= 0
        return self.state, reward, terminated, truncated, info


class Endless(Bounded):
    """Its episodes never end."""

    def step(self, action):
        obs, reward, *_ = super().step(action)
        return obs, reward, False, False, {}


class Counted(Bounded):
    """Counts the instances that are open."""

    num_open = 0
    max_open = 100
    closed = False

    def __init__(self):
        if self.num_open >= self.max_open:
            raise RuntimeError("the port is in use")
        type(self).num_open += 1

    def step(self, action):
        assert not self.closed
        return super().step(action)

    def close(self):
        self.closed = True
        type(self).num_open -= 1


class HangingClose(Bounded):
    """Its ``close()`` hangs once it has been used."""

    used = False

    def step(self, action):
        self.used = True
        return super().step(action)

    def close(self):
        while self.used:
            time.sleep(0.1)


class Single(Counted):
    """Only one can exist at a time."""

    max_open = 1


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
    """Crashes its process where a simulator's C code would: in its constructor, its first reset or its rendering."""

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


class Drawn(Bounded):
    """Renders frames without OpenGL, which get brighter."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        return np.full((64, 64, 3), 20 * (10 - self.left), np.uint8)


for cls in (
    Bounded,
    Drawn,
    Target,
    Breaking,
    NonFinite,
    NonFiniteOnOne,
    Hanging,
    Forgetful,
    DrawsGlobally,
    Slow,
    SameArray,
    Endless,
    Counted,
    HangingClose,
    Single,
    Aborting,
):
    gymnasium.register(f"{cls.__name__}-v0", cls, max_episode_steps=7 if cls is Bounded else None)

# id → observation and action space of `Checked`
CHECKED_SPACES = {
    "Whole-v0": (gymnasium.spaces.Box(-1, 1, (4, 3), np.float32), gymnasium.spaces.Box(0, 5, (2,), np.int32)),
    "Scalar-v0": (gymnasium.spaces.Box(-1, 1, ()), gymnasium.spaces.Box(100, 300, ())),
    "Matrix-v0": (gymnasium.spaces.Box(0, 255, (2,), np.uint8), gymnasium.spaces.Box(-0.3, 0.1, (2, 2), np.float64)),
    "Choices-v0": (gymnasium.spaces.MultiBinary((2, 2)), gymnasium.spaces.MultiDiscrete([2, 3], start=[4, 0])),
    "Switches-v0": (gymnasium.spaces.Discrete(3), gymnasium.spaces.MultiBinary(3)),
}
for env_id, pair in CHECKED_SPACES.items():
    gymnasium.register(env_id, Checked, kwargs=dict(zip(("observation_space", "action_space"), pair, strict=True)))
PLANE = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
gymnasium.register("Unbounded-v0", Checked, kwargs={"observation_space": PLANE, "action_space": PLANE})
