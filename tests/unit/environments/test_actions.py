"""Conversion of actions between the policy's units and the environment's."""

import numpy as np
import pytest
from gymnasium import spaces

from milozero.environments.actions import MAX_COMBINATIONS, make_converter

FLOAT_MAX = np.finfo(np.float32).max
BOXES = [
    spaces.Box(-1, 1, (2,), np.float32),
    spaces.Box(-1, 1, (2,), np.float64),
    spaces.Box(-0.3, 0.1, (2,), np.float32),
    spaces.Box(-0.3, 0.1, (2,), np.float64),
    spaces.Box(-0.3, 0.1, (2,), np.float16),
    spaces.Box(-0.01, 0.01, (1,)),
    spaces.Box(100, 300, (2, 3)),
    spaces.Box(5, 10, ()),
    spaces.Box(2, 2, (1,)),  # a constant
    spaces.Box(0, 1e-40, (1,)),
    spaces.Box(-FLOAT_MAX, FLOAT_MAX, (1,)),
    spaces.Box(-1.7e308, 1.7e308, (1,), np.float64),
    spaces.Box(np.array([0, -np.inf, -np.inf], np.float32), np.array([np.inf, 3, np.inf], np.float32)),
    spaces.Box(0, 5, (2,), np.int32),
    spaces.Box(0, 255, (2,), np.uint8),
    spaces.Box(-128, 127, (2, 2), np.int8),
    spaces.Box(0, 1, (2,), bool),
    spaces.Box(-np.inf, np.inf, (2,), np.int32),
    spaces.Box(-(2**63), 2**63 - 1, (1,), np.int64),
    spaces.Box(0, 2**64 - 1, (1,), np.uint64),
]
FINITE = [
    spaces.Discrete(4),
    spaces.Discrete(3, start=5),
    spaces.Discrete(3, start=-1, dtype=np.int8),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([[2, 3], [2, 2]], dtype=np.int8),
    spaces.MultiDiscrete([2, 3], start=[4, -1]),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 2)),
]


def sample_policy(space, rows=200):
    """Return actions (rows, 2, A) or (rows, 2) of a policy, some far outside the bounds."""
    rng = np.random.default_rng(0)
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n, size=(rows, 2))
    scales = 10.0 ** rng.integers(-2, 9, (rows, 1, 1))
    return (rng.normal(size=(rows, 2, *space.shape)) * scales).astype(np.float32)


@pytest.mark.parametrize("space", BOXES + FINITE, ids=str)
@pytest.mark.filterwarnings("error", "ignore:.*Casting input x")
def test_every_action_of_a_policy_is_in_the_action_space(space):
    converter = make_converter(space)
    actions = sample_policy(converter.policy_space)
    converted = converter.to_env(actions)
    assert converted.shape == (200, 2, *space.shape)
    assert all(space.contains(action) for rows in converted for action in rows)
    assert space.contains(converter.to_env(actions[0, 0]))


@pytest.mark.parametrize("space", BOXES + FINITE, ids=str)
def test_conversion_to_policy_units_and_back_keeps_the_action(space):
    converter = make_converter(space)
    actions = converter.to_env(sample_policy(converter.policy_space))
    policy_actions = converter.to_policy(actions)
    discrete = isinstance(converter.policy_space, spaces.Discrete)
    as_learned = policy_actions if discrete else policy_actions.astype(np.float32)
    again = converter.to_env(as_learned)
    if space.dtype.kind == "f":
        np.testing.assert_allclose(again, actions, rtol=1e-3 if space.dtype == np.float16 else 1e-5, atol=1e-7)
    else:
        np.testing.assert_allclose(again.astype(float), actions.astype(float), rtol=1e-7)  # float32 from 2**24 on


@pytest.mark.parametrize(("low", "high"), [(-0.01, 0.01), (0, 1), (-100, 100), (5, 10), (100, 300)])
def test_minus_one_is_the_lower_and_one_the_upper_bound(low, high):
    converter = make_converter(spaces.Box(low, high, (1,), np.float64))
    values = [-2, -1, -0.5, 0, 0.5, 1, 2]
    shares = np.clip((np.array(values) + 1) / 2, 0, 1)
    np.testing.assert_allclose(converter.to_env(np.array(values)[:, None])[:, 0], low + shares * (high - low))


def test_bounds_of_one_leave_actions_bit_identical():
    space = spaces.Box(-1, 1, (3,), np.float32)
    actions = np.array([[0.1, -0.7, 3.0]], np.float32)
    converter = make_converter(space)
    np.testing.assert_array_equal(converter.to_env(actions), np.clip(actions, space.low, space.high))
    np.testing.assert_array_equal(converter.to_policy(actions), actions)


def test_component_without_two_finite_bounds_keeps_its_units():
    inf = np.inf
    space = spaces.Box(np.array([-inf, 0, -4], np.float32), np.array([inf, inf, 4], np.float32))
    converter = make_converter(space)
    np.testing.assert_array_equal(converter.to_env(np.float32([50, 50, 0.5])), [50, 50, 2])
    np.testing.assert_array_equal(converter.to_env(np.float32([-50, -50, -50])), [-50, 0, -4])
    np.testing.assert_array_equal(converter.policy_space.high[2:], [1])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1e10, 1e10, (1,)),  # dm_control's actuators without a range, e.g. of dmc:lqr-lqr_2_1
        spaces.Box(-FLOAT_MAX, FLOAT_MAX, (1,)),
        spaces.Box(-1.7e308, 1.7e308, (1,), np.float64),
        spaces.Box(-np.inf, np.inf, (1,), np.int32),
        spaces.Box(-(2**63), 2**63 - 1, (1,), np.int64),
    ],
    ids=str,
)
def test_bounds_that_mean_unbounded_keep_the_environments_units(space):
    assert make_converter(space).to_env(np.float32([7])) == [7]


def test_whole_numbers_are_rounded_not_truncated():
    converter = make_converter(spaces.Box(0, 5, (1,), np.int32))
    given = np.float32([[-1], [-0.7], [-0.3], [0.9], [1]])
    np.testing.assert_array_equal(converter.to_env(given)[:, 0], [0, 1, 2, 5, 5])


def test_matrix_of_actions_is_a_vector_to_the_policy():
    converter = make_converter(spaces.Box(0, 10, (2, 3)))
    assert converter.policy_space.shape == (6,)
    np.testing.assert_array_equal(converter.to_env(np.float32([-1, 0, 1, 0, 0, 0])), [[0, 5, 10], [5, 5, 5]])


def test_combinations_are_numbered_in_row_major_order():
    converter = make_converter(spaces.MultiDiscrete([2, 3], start=[4, 0]))
    assert converter.policy_space.n == 6
    expected = [[4, 0], [4, 1], [4, 2], [5, 0], [5, 1], [5, 2]]
    np.testing.assert_array_equal(converter.to_env(np.arange(6)), expected)
    np.testing.assert_array_equal(converter.to_policy(np.array(expected, float)), np.arange(6))
    assert make_converter(spaces.MultiBinary(10)).policy_space.n == MAX_COMBINATIONS


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (spaces.Discrete(3, start=5), 4),
        (spaces.Discrete(3, start=5), 5.5),
        (spaces.MultiDiscrete([2, 3]), [0, 3]),
        (spaces.MultiDiscrete([2, 3]), [0, -1]),
        (spaces.MultiBinary(2), [0.5, 1]),
    ],
)
def test_discrete_action_outside_the_space_is_an_error(space, action):
    with pytest.raises(ValueError, match=r"must be (integers from 5 to 7|members of Multi)"):
        make_converter(space).to_policy(np.array([action]))
