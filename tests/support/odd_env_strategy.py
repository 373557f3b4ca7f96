"""A hypothesis strategy that composes odd environments."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

from tests.support.odd_envs import (
    ENDS,
    FLAGS,
    INFOS,
    OBSERVATIONS,
    OLD_RESETS,
    PICTURES,
    RANDOM_NUMBERS,
    REWARDS,
    WRAPPERS,
    Oddity,
)

# (low, high, type) of boxes
OBSERVATION_BOUNDS = st.sampled_from(
    [
        (-10, 10, np.float32),
        (-np.inf, np.inf, np.float32),
        (-1, 1, np.float64),
        (-1e9, 1e9, np.float64),
        (0, 1, np.float16),
        (0, 255, np.uint8),
        (-5, 5, np.int64),
        (3, 3, np.float32),
    ]
)
ACTION_BOUNDS = st.sampled_from(
    [
        (-1, 1, np.float32),
        (-1, 1, np.float64),
        (100, 300, np.float32),
        (0, 5, np.int32),
        (0, 255, np.uint8),
        (-0.01, 0.01, np.float32),
        (-np.inf, np.inf, np.float32),
        (0, np.inf, np.float32),
        (2, 2, np.float32),
    ]
)


def boxes(bounds: st.SearchStrategy, shapes: list[tuple[int, ...]]) -> st.SearchStrategy[spaces.Box]:
    return st.builds(lambda b, shape: spaces.Box(b[0], b[1], shape, b[2]), bounds, st.sampled_from(shapes))


VECTORS = boxes(OBSERVATION_BOUNDS, [(1,), (3,), (40,)])
OBSERVATION_SPACES = st.one_of(
    VECTORS,
    VECTORS,  # most environments have vectors
    boxes(OBSERVATION_BOUNDS, [(), (0,), (2, 3), (8, 8, 3)]),
    st.builds(lambda a, b: spaces.Dict(b=a, a=b, c=spaces.Discrete(3, start=1)), VECTORS, VECTORS),
    st.builds(lambda a: spaces.Tuple((a, spaces.MultiBinary(2))), VECTORS),
    st.sampled_from([spaces.Discrete(5), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4), spaces.Text(3)]),
)
ACTION_SPACES = st.one_of(
    boxes(ACTION_BOUNDS, [(1,), (2,), (20,)]),
    st.sampled_from([spaces.Discrete(1), spaces.Discrete(4), spaces.Discrete(3, start=-1)]),
    boxes(ACTION_BOUNDS, [(), (0,), (2, 2)]),
    st.sampled_from([spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)]),
    st.builds(lambda a: spaces.Dict(left=a, right=spaces.Discrete(2)), boxes(ACTION_BOUNDS, [(1,)])),
)


def mostly(usual: str, others: dict[str, object] | list[str]) -> st.SearchStrategy[str]:
    """Draw the usual value in three of four cases, so that an environment has few oddities at once."""
    return st.one_of(st.just(usual), st.just(usual), st.just(usual), st.sampled_from(sorted(others)))


ODDITIES = st.builds(
    Oddity,
    observation_space=OBSERVATION_SPACES,
    action_space=ACTION_SPACES,
    obs=mostly("array", OBSERVATIONS),
    info=st.sampled_from(sorted(INFOS)),
    reward=mostly("float", [*REWARDS, "random"]),
    flags=mostly("bool", FLAGS),
    ends=st.sampled_from(sorted(ENDS)),
    picture=st.sampled_from(sorted(PICTURES)),
    randomness=st.sampled_from(sorted(RANDOM_NUMBERS)),
    api=mostly("new", ["old step", *OLD_RESETS]),
    wrapper=mostly("", WRAPPERS),
    time_limit=st.sampled_from([None, 1, 6]),
    has_child=mostly("", ["", "child"]).map(bool),
    is_single=mostly("", ["", "single"]).map(bool),
)
