"""Observation and action spaces: which are supported, and how they become vectors."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from milozero import environments
from milozero.environments.vector import check_spaces
from milozero.helpers.errors import UserError

BOX, CHOICE = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)
IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (IMAGE, CHOICE, "image observations of shape .8, 8, 3..*FlattenObservation"),
        (spaces.Dict(camera=IMAGE, joints=BOX), CHOICE, "image observations"),
        (spaces.Box(0, 1, (3, 0)), CHOICE, "is empty; return a constant instead"),
        (spaces.Dict(part=spaces.Sequence(CHOICE)), CHOICE, "cannot be flattened to a vector; convert it"),
        (spaces.Tuple(()), CHOICE, "cannot be flattened to a vector; convert it"),
        (BOX, spaces.Dict(), "composite actions"),
        (spaces.Graph(BOX, None), CHOICE, "cannot be flattened"),
        (BOX, spaces.Dict(first=BOX, second=BOX), "multiple agents"),
        (BOX, spaces.Text(3), "not supported; convert it to a Box or Discrete with a gymnasium.ActionWrapper"),
        (BOX, spaces.Box(-1, 1, (0,)), "is empty, so there is nothing to learn"),
        (BOX, spaces.MultiDiscrete([100, 100]), "more than 1,024 combinations of actions; convert it to a Box"),
        (BOX, spaces.MultiBinary(11), "more than 1,024 combinations"),
    ],
)
def test_unsupported_spaces_are_rejected(observation, action, message, monkeypatch):
    made = _make_fake_env(observation, action)
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", gymnasium.envs.registration.EnvSpec("Odd-v0", lambda: made))
    with pytest.raises(UserError, match=f"Odd-v0: .*{message}"):
        environments.make_env("Odd-v0")


def test_refused_space_is_described_on_one_short_line():
    many = spaces.MultiDiscrete(np.full((40, 40), 9))
    with pytest.raises(UserError, match="combinations of actions") as error:
        check_spaces("Odd-v0", BOX, many)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def _make_fake_env(observation, action, *first):
    env = gymnasium.Env()
    env.observation_space, env.action_space = observation, action
    env.reset = lambda seed=None, options=None: (first[0] if first else observation.sample(), {})
    return env


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (np.zeros(3), "shape .3,. and type float64, but observation_space has shape .2,."),
        ("red", "returned the observation str 'red'"),
        (None, "returned the observation None"),
        (np.array([0, np.nan]), "not finite"),
    ],
)
def test_first_observation_outside_its_space_is_rejected(first, message, monkeypatch):
    made = _make_fake_env(BOX, CHOICE, first)
    spec = gymnasium.envs.registration.EnvSpec("Odd-v0", lambda: made)
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", spec)
    with pytest.raises(UserError, match=f"Odd-v0: .*{message}"):
        environments.make_vector_env("Odd-v0", 1)


class OneArray(gymnasium.Env):
    """Observes its seed; all instances write into the same array."""

    observation_space, action_space = spaces.Box(-10, 10, (1,), np.float32), spaces.Box(-1, 1, (1,), np.float32)
    shared = np.zeros(1, np.float32)

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        return self._observe(), {}

    def step(self, action):
        return self._observe(), 0.0, False, False, {}

    def _observe(self):
        self.shared[:] = self.seed
        return self.shared


def test_environments_that_write_into_one_array_keep_their_own_observations(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("OneArray-v0", OneArray)
    monkeypatch.setitem(gymnasium.registry, "OneArray-v0", spec)
    env = environments.make_vector_env("OneArray-v0", 3)
    np.testing.assert_array_equal(env.reset([4, 5, 6])[:, 0], [4, 5, 6])
    np.testing.assert_array_equal(env.step(np.zeros((3, 1)))[0][:, 0], [4, 5, 6])


@pytest.mark.parametrize(
    ("space", "obs", "expected"),
    [
        (spaces.Box(0, 9, (2, 3), np.uint8), np.arange(6, dtype=np.uint8).reshape(2, 3), range(6)),
        (spaces.Box(-1, 1, ()), np.float32(0.5), [0.5]),
        (spaces.Box(0, 9, (2,), np.int64), np.array([3, 4]), [3, 4]),
        (spaces.Box(0, 1, (2,), bool), np.array([True, False]), [1, 0]),
        (spaces.MultiBinary((1, 2)), np.array([[0, 1]], np.int8), [0, 1]),
        (spaces.Discrete(3, start=5), 6, [0, 1, 0]),
        (spaces.Tuple((spaces.Box(-1, 1, ()), spaces.Discrete(2))), (np.float32(0.5), 1), [0.5, 0, 1]),
    ],
)
def test_observations_become_vectors_of_floats_in_training_and_evaluation(space, obs, expected, monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("Odd-v0", lambda: _make_fake_env(space, CHOICE, obs))
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", spec)
    env = environments.make_env("Odd-v0")
    evaluated, vector = env.reset()[0], environments.make_vector_env("Odd-v0", 2)
    assert evaluated.dtype.kind == env.observation_space.dtype.kind == "f"
    np.testing.assert_array_equal(evaluated, list(expected))
    trained = vector.reset([0, 1])
    assert (trained.dtype, vector.observation_size) == (evaluated.dtype, len(list(expected)))
    np.testing.assert_array_equal(trained, [list(expected)] * 2)


def test_dictionary_observation_is_flattened_in_the_order_of_its_space():
    space = spaces.Dict({"b": BOX, "a": spaces.Discrete(3)})  # sorted by name
    made = _make_fake_env(space, CHOICE, {"b": np.array([0.5, -0.5]), "a": 1})
    env = gymnasium.wrappers.FlattenObservation(made)
    np.testing.assert_array_equal(env.reset()[0], [0, 1, 0, 0.5, -0.5])
