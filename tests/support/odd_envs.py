"""Environments with the oddities of users' environments, one or several at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

ENV_ID = "Odd-v0"

# name → what the observation (float, in [-1, 1]) becomes
OBSERVATIONS = {
    "array": lambda obs, space: obs,
    "float64": lambda obs, space: np.asarray(obs, np.float64) if isinstance(space, spaces.Box) else obs,
    "list": lambda obs, space: obs.tolist() if isinstance(space, spaces.Box) else obs,
    "tensor": lambda obs, space: torch.as_tensor(obs) if isinstance(space, spaces.Box) else obs,
    "outside": lambda obs, space: obs.astype(np.float32) + 1000 if isinstance(space, spaces.Box) else obs,
    "None": lambda obs, space: None,
    "text": lambda obs, space: "red",
    "longer": lambda obs, space: np.zeros(7, np.float32),
}
BAD_OBSERVATIONS = ("None", "text", "longer")
# name → info of a step
INFOS = {
    "empty": lambda step: {},
    "shapes": lambda step: {"position": np.zeros(step % 3)},
    "kinds": lambda step: {"why": 0 if step % 3 else "fell"},
    "nested": lambda step: {"parts": {"arm": [1, None]} if step % 2 else np.zeros(2)},
    "objects": lambda step: {"env": object(), 3: lambda: None},
    "None": lambda step: None,
}
REWARDS = {
    "float": 1.5,
    "int": 1,
    "bool": True,
    "float32": np.float32(1.5),
    "array": np.array([1.5], np.float32),
    "matrix": np.array([[1.5]]),
    "scalar array": np.array(1.5),
    "tensor": torch.tensor([1.5]),
    "list": [1.5],
    "None": None,
    "text": "1.5",
    "two": np.ones(2),
    "complex": 1j,
}
BAD_REWARDS = ("None", "text", "two", "complex")
FLAGS = {
    "bool": bool,
    "bool_": np.bool_,
    "int": int,
    "array": lambda flag: np.array([flag]),
    "tensor": torch.tensor,
    "None": lambda flag: flag or None,
}
BAD_FLAGS = ("None",)
# name → (terminated, truncated) of step 1, 2, ...
ENDS = {
    "terminates": lambda step: (step >= 10, False),
    "truncates": lambda step: (False, step >= 7),
    "both": lambda step: (step >= 5, step >= 5),
    "first step": lambda step: (True, False),
    "never": lambda step: (False, False),
}
PICTURE = np.zeros((40, 60, 3), np.uint8)
# name → picture of a step
PICTURES = {
    "RGB": lambda step: PICTURE,
    "gray": lambda step: PICTURE[:, :, 0],
    "one channel": lambda step: PICTURE[:, :, :1],
    "RGBA": lambda step: np.zeros((40, 60, 4), np.uint8),
    "odd size": lambda step: PICTURE[:39, :59],
    "pixel": lambda step: PICTURE[:1, :1],
    "read-only view": lambda step: np.broadcast_to(PICTURE[::-1], PICTURE.shape),
    "grows": lambda step: np.zeros((40 + 2 * step, 60, 3), np.uint8),
    "None later": lambda step: None if step else PICTURE,
    "None": lambda step: None,
    "list": lambda step: PICTURE.tolist(),
    "frames": lambda step: [PICTURE],
    "channels first": lambda step: np.moveaxis(PICTURE, -1, 0),
    "float": lambda step: PICTURE / 255,
    "int": lambda step: PICTURE.astype(int),
    "empty": lambda step: PICTURE[:0],
    "text": lambda step: "@..#",
    "raises": lambda step: 1 // 0,
}
GOOD_PICTURES = ("RGB", "gray", "one channel", "RGBA", "odd size", "pixel", "read-only view")
FAULTY_LATER = ("grows", "None later")
RANDOM_NUMBERS = {
    "np_random": lambda env: env.np_random.uniform(-1, 1),
    "numpy": lambda env: np.random.uniform(-1, 1),  # noqa: NPY002
    "random": lambda env: random.uniform(-1, 1),
    "torch": lambda env: float(torch.rand(()) * 2 - 1),
    "unseeded": lambda env: np.random.default_rng().uniform(-1, 1),
    "constant": lambda env: 0.5,
}


@dataclass(frozen=True, kw_only=True)
class Oddity:
    """How an environment differs from a plain one, by the names above."""

    observation_space: spaces.Space = dataclasses.field(default_factory=lambda: spaces.Box(-10, 10, (3,), np.float32))
    action_space: spaces.Space = dataclasses.field(default_factory=lambda: spaces.Box(-1, 1, (2,), np.float32))
    obs: str = "array"
    info: str = "empty"
    reward: str = "float"  # or "random"
    flags: str = "bool"
    ends: str = "terminates"
    picture: str = "RGB"
    randomness: str = "np_random"
    api: str = "new"  # or "old reset", "old step", "no options", "no seed", "seed 0"
    wrapper: str = ""  # of `WRAPPERS`
    time_limit: int | None = None
    has_child: bool = False
    is_single: bool = False  # only one can exist at a time

    @property
    def is_refused(self) -> bool:
        """Whether training must refuse the environment, regardless of its spaces."""
        return (
            self.obs in BAD_OBSERVATIONS
            or self.reward in BAD_REWARDS
            or self.flags in BAD_FLAGS
            or self.api in ("old reset", "old step", "no options", "no seed")
        )


class Odd(gymnasium.Env):
    """Ten steps of noise, with oddities."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    num_open = 0

    def __init__(self, oddity: Oddity, render_mode: str | None = None) -> None:
        if oddity.is_single and Odd.num_open:
            raise RuntimeError("the port is in use")
        Odd.num_open += 1
        self.oddity, self.render_mode = oddity, render_mode
        self.observation_space, self.action_space = oddity.observation_space, oddity.action_space
        self.child = subprocess.Popen(["sleep", "600"]) if oddity.has_child else None
        self.time = 0
        if oddity.api in OLD_RESETS:
            self.reset = OLD_RESETS[oddity.api].__get__(self)  # type: ignore[method-assign]

    def observe(self) -> Any:
        number, space = RANDOM_NUMBERS[self.oddity.randomness](self), self.observation_space
        if not isinstance(space, spaces.Box):
            space.seed(int(abs(number) * 1e6))
            return OBSERVATIONS[self.oddity.obs](space.sample(), space)
        obs = np.clip(np.full(space.shape, number), space.low, space.high).astype(space.dtype)
        return OBSERVATIONS[self.oddity.obs](obs, space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.observe(), INFOS[self.oddity.info](0)

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"not in the space: {action!r}"
        self.time += 1
        oddity, is_random = self.oddity, self.oddity.reward == "random"
        reward = RANDOM_NUMBERS[oddity.randomness](self) if is_random else REWARDS[oddity.reward]
        ends = [FLAGS[oddity.flags](flag) for flag in ENDS[oddity.ends](self.time)]
        if oddity.api == "old step":
            del ends[1]
        return self.observe(), reward, *ends, INFOS[oddity.info](self.time)

    def render(self) -> Any:
        return PICTURES[self.oddity.picture](self.time)

    def close(self) -> None:
        Odd.num_open -= 1
        if self.child:
            self.child.terminate()
            self.child.wait()


OLD_RESETS = {
    "old reset": lambda self, seed=None, options=None: Odd.reset(self, seed=seed)[0],
    "no options": lambda self, seed=None: Odd.reset(self, seed=seed),
    "no seed": lambda self: Odd.reset(self),
    "seed 0": lambda self, seed=0, options=None: Odd.reset(self, seed=seed),
}


class Moments:
    """Running statistics as users write them."""

    def __init__(self) -> None:
        self.n, self.obs_mean, self.obs_std = 0, 0.0, 1.0

    def __call__(self, obs: Any) -> Any:
        self.n += 1
        self.obs_mean += (np.asarray(obs, np.float32) - self.obs_mean) / self.n
        return (obs - self.obs_mean) / self.obs_std


def normalize_by_closure(env: gymnasium.Env) -> gymnasium.Env:
    moments = Moments()
    return gymnasium.wrappers.TransformObservation(env, lambda obs: moments(obs), env.observation_space)


def center(env: gymnasium.Env) -> gymnasium.Env:
    """Subtract a running average that no name reveals."""
    state = [0.0]

    def transform(obs: Any) -> Any:
        state[0] = 0.9 * state[0] + 0.1 * obs
        return np.clip(obs - state[0], -10, 10)

    return gymnasium.wrappers.TransformObservation(env, transform, env.observation_space)


# name → wrapper; those in `KEEPS_STATE` carry state from one episode to the next
WRAPPERS = {
    "": lambda env: env,
    "NormalizeObservation": gymnasium.wrappers.NormalizeObservation,
    "NormalizeReward": gymnasium.wrappers.NormalizeReward,
    "inner": lambda env: gymnasium.wrappers.ClipReward(gymnasium.wrappers.NormalizeReward(env), -5, 5),
    "callable": lambda env: gymnasium.wrappers.TransformObservation(env, Moments(), env.observation_space),
    "closure": normalize_by_closure,
    "center": center,
    "statistics": gymnasium.wrappers.RecordEpisodeStatistics,
    "stack": lambda env: gymnasium.wrappers.FlattenObservation(gymnasium.wrappers.FrameStackObservation(env, 2)),
}
KEEPS_STATE = ("NormalizeObservation", "NormalizeReward", "inner", "callable", "closure", "center")


def make_odd(oddity: Oddity, render_mode: str | None = None) -> gymnasium.Env:
    """Return an environment with its wrapper: a user's entry point."""
    env = Odd(oddity, render_mode)
    try:
        return WRAPPERS[oddity.wrapper](env)
    except BaseException:
        env.close()
        raise


@contextlib.contextmanager
def register_odd(oddity: Oddity) -> Iterator[str]:
    """Register an odd environment; yield its id."""
    Odd.num_open = 0
    make = functools.partial(make_odd, oddity)
    spec = gymnasium.envs.registration.EnvSpec(ENV_ID, make, max_episode_steps=oddity.time_limit)
    gymnasium.registry[ENV_ID] = spec
    try:
        yield ENV_ID
    finally:
        del gymnasium.registry[ENV_ID]
