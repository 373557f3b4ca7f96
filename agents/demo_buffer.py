"""Expert demonstrations as a replay buffer, for off-policy algorithms that learn from both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from milozero.agents.replay_buffer import ReplayBuffer, Steps
from milozero.demonstrations.episode import Episode


def make_demo_buffer(demos: Sequence[Episode], every: int, rng: np.random.Generator) -> ReplayBuffer:
    """Return a replay buffer that contains demonstrations and samples every `every`-th step of each.

    Args:
        demos: complete episodes, with actions (L, A) in the policy's units.
        every: the setting ``demo_subsampling``; the steps between are only part of n-step returns.
        rng: chooses each episode's first step.
    """
    observation_size, action_size = demos[0].obs.shape[1], demos[0].actions.shape[1]
    buffer = ReplayBuffer(sum(len(demo) + 1 for demo in demos), 1, observation_size, action_size)
    for demo in demos:
        length = len(demo)
        fields = {
            # A padding step after each episode keeps its final observation.
            "obs": np.concatenate([demo.obs, demo.obs[-1:]]),
            # The environment clips actions; unclipped ones would lie where the policy cannot act.
            "actions": np.concatenate([np.clip(demo.actions, -1.0, 1.0), np.zeros((1, action_size))]),
            "rewards": np.append(demo.rewards, 0.0),
            "terminated": np.zeros(length + 1, bool),
            "done": np.zeros(length + 1, bool),
            "mask": np.zeros(length + 1, bool),
        }
        fields["terminated"][length - 1] = demo.terminated
        fields["done"][length - 1] = True
        fields["mask"][rng.integers(min(every, length)) : length : every] = True
        types = (np.float32, np.float32, np.float32, bool, bool, bool)
        buffer.add(Steps(*(field[:, None].astype(kind) for field, kind in zip(fields.values(), types, strict=True))))
    return buffer


def shuffle_features(demos: Sequence[Episode], rng: np.random.Generator) -> list[Episode]:
    """Return demonstrations with every feature of observations and actions permuted separately, over all steps."""
    changed: dict[str, list[np.ndarray]] = {}
    for name in ("obs", "actions"):
        parts = [getattr(demo, name) for demo in demos]
        rows = rng.permuted(np.concatenate(parts), axis=0)
        changed[name] = np.split(rows, np.cumsum([len(part) for part in parts])[:-1])
    pairs = zip(changed["obs"], changed["actions"], strict=True)
    return [
        dataclasses.replace(demo, obs=obs, actions=actions) for demo, (obs, actions) in zip(demos, pairs, strict=True)
    ]
