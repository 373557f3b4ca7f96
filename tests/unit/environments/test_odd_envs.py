"""What users' environments may return, and what the check before training reports."""

import contextlib
import random
import re
import warnings
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero import environments
from milozero.environments import registry
from milozero.helpers.comm import Comm
from milozero.helpers.errors import RunError, UserError
from milozero.training.build import open_envs
from tests.support import odd_envs
from tests.support.odd_envs import Oddity, register_odd

ACTIONS = np.zeros((2, 2), np.float32)


def roll_out(steps=25, seeds=(3, 4), **oddity):
    """Step two environments; return observations (T+1, N, O), rewards, terminated and truncated (T, N)."""
    with register_odd(Oddity(**oddity)) as env_id:
        env = environments.make_vector_env(env_id, 2)
        obs, results = [env.reset(seeds).copy()], []
        for _ in range(steps):
            result = env.step(ACTIONS)
            obs.append(result[0].copy())
            results.append([values.copy() for values in result[1:]])
        env.close()
    return np.array(obs), *map(np.array, zip(*results, strict=True))


def check(**oddity):
    with register_odd(Oddity(**oddity)) as env_id:
        env = environments.make_env(env_id)
        try:
            return environments.check_env(env_id, env)
        finally:
            env.close()


PLAIN = roll_out()


@pytest.mark.parametrize("info", odd_envs.INFOS)
def test_infos_are_ignored(info):
    for expected, actual in zip(PLAIN, roll_out(info=info), strict=True):
        np.testing.assert_array_equal(expected, actual)
    assert check(info=info) == []


@pytest.mark.parametrize("reward", [name for name in odd_envs.REWARDS if name not in odd_envs.BAD_REWARDS])
def test_reward_of_one_element_is_converted(reward):
    rewards = roll_out(reward=reward)[1]
    assert set(rewards[:10].ravel()) == {float(np.array(odd_envs.REWARDS[reward]).item())}
    assert (rewards[10] == 0).all()  # the padding step


@pytest.mark.parametrize("flags", ["int", "array", "tensor", "bool_"])
def test_flags_of_one_element_are_converted(flags):
    for expected, actual in zip(PLAIN, roll_out(flags=flags), strict=True):
        np.testing.assert_array_equal(expected, actual)


@pytest.mark.parametrize("obs", ["float64", "list", "tensor"])
def test_observations_of_other_types_are_converted(obs):
    np.testing.assert_array_equal(PLAIN[0], roll_out(obs=obs)[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float64])
def test_observations_are_floats_whatever_the_type_of_their_space(dtype):
    obs = roll_out(observation_space=spaces.Box(0, 200, (3,), dtype), obs="outside")[0]
    assert obs.dtype in (np.float32, np.float64)
    assert (obs >= 1000).all()


@pytest.mark.parametrize(
    ("oddity", "message"),
    [
        ({"api": "old reset"}, r"reset\(\) returned ndarray of shape \(3,\) and type float32, not \(obs"),
        ({"api": "old step"}, r"step\(\) returned 4 values, not \(observation, reward, terminated, trunc"),
        ({"api": "old step", "time_limit": 5}, r"step\(\) failed: ValueError: .* step\(\) must return \(obs"),
        ({"api": "no options"}, r"define reset\(self, \*, seed=None, options=None\)"),
        ({"api": "no seed"}, r"define reset\(self, \*, seed=None, options=None\)"),
        ({"reward": "text"}, "str '1.5' as reward, not a number"),
        ({"reward": "None"}, "None as reward, not a number"),
        ({"reward": "two"}, r"ndarray of shape \(2,\) and type float64 as reward, not a number"),
        ({"flags": "None"}, "None as terminated, not a number"),
        ({"obs": "None"}, r"reset\(\) returned the observation None, but observation_space has shape \(3,\)"),
        ({"obs": "longer"}, r"the observation ndarray of shape \(7,\) .*, but observation_space has shape \(3,\)"),
    ],
)
def test_unusable_environment_is_refused_in_one_line(oddity, message):
    with pytest.raises(UserError, match=f"Odd-v0: .*{message}") as caught:
        check(**oddity)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("oddity", "message"),
    [
        (
            {"reward": "array"},
            r"the reward is ndarray of shape \(1,\) .* is converted to a float; return float\(reward\)",
        ),
        ({"flags": "int"}, r"terminated or truncated is int, not bool, and is converted; return bool\(terminated\)"),
        ({"obs": "float64"}, r"observations are float64, but observation_space is float32, .*astype\(np.float32\)"),
        ({"obs": "list"}, r"observations are list, not arrays, .*; return np.array\(..., np.float32\)"),
        ({"obs": "outside"}, r"observation\[0\] is 100\d.*, outside its bounds \[-10, 10\]; widen observation_space"),
        ({"api": "seed 0"}, r"reset\(\) has the default seed 0, which repeats one episode; make it None"),
        ({"randomness": "unseeded"}, "the same seed and actions give a different observation in step 0.* self.np_r"),
        (
            {"wrapper": "center"},
            "the same seed and actions give a different observation in step 0; .* carry no state",
        ),
        ({"wrapper": "NormalizeObservation"}, "NormalizeObservation normalizes with .* --normalize_observations"),
        ({"wrapper": "NormalizeReward"}, "NormalizeReward normalizes with running statistics, which checkpoints"),
        ({"wrapper": "inner"}, "NormalizeReward normalizes with running statistics"),
        ({"wrapper": "callable"}, "TransformObservation normalizes with running statistics"),
        ({"wrapper": "closure"}, "TransformObservation normalizes with running statistics"),
    ],
)
def test_possible_problem_is_one_warning_with_a_fix(oddity, message):
    findings = check(**oddity)
    assert all(finding.startswith("Odd-v0: ") and finding.isprintable() for finding in findings)
    assert [bool(re.search(message, finding)) for finding in findings] == [True], findings


@pytest.mark.parametrize("oddity", [{"randomness": name} for name in ("numpy", "random", "torch")])
def test_global_generators_are_seeded_with_the_environment(oddity):
    assert check(**oddity) == []
    first, second, other = roll_out(**oddity), roll_out(**oddity), roll_out(seeds=(5, 6), **oddity)
    np.testing.assert_array_equal(first[0], second[0])
    assert len(np.unique(first[0])) > 20
    assert not np.array_equal(first[0], other[0])


def test_constructors_draw_what_the_seed_and_the_worker_determine():
    def construct(seed, rank=0):
        """Return what the constructors of a worker's two environments draw."""
        comm = SimpleNamespace(rank=rank, on_root=lambda call: call())
        with contextlib.ExitStack() as envs:
            vector, _ = open_envs(env_id, 2, {}, envs, comm, seed)
            return [env.unwrapped.drawn for env in vector._env.envs]

    class Drawing(odd_envs.Odd):
        def __init__(self, render_mode=None):
            super().__init__(Oddity())
            self.drawn = np.random.random()  # noqa: NPY002

    with register_odd(Oddity()) as env_id:
        gymnasium.registry[env_id].entry_point = Drawing
        assert construct(3) == construct(3)
        assert len({*construct(3), *construct(4), *construct(3, rank=1)}) == 6


@pytest.mark.parametrize("wrapper", ["statistics", "stack", ""])
def test_wrappers_without_running_statistics_are_not_reported(wrapper):
    assert check(wrapper=wrapper) == []


def test_environments_of_gymnasium_are_not_stepped(monkeypatch):
    env = environments.make_env("CartPole-v1")
    monkeypatch.setattr(env.unwrapped, "step", lambda action: 1 / 0)
    assert environments.check_env("CartPole-v1", env) == []


def test_slow_environment_is_checked_only_briefly(monkeypatch):
    times = iter(range(0, 1000, 3))
    monkeypatch.setattr("milozero.environments.check.time.monotonic", lambda: next(times))
    assert check(randomness="unseeded", reward="array") == []


def test_problem_after_the_check_is_a_one_line_error():
    with register_odd(Oddity()) as env_id:
        env = environments.make_vector_env(env_id, 2)
        env.reset([0, 1])
        odd = env._env.envs[1].unwrapped
        odd.observe = lambda: np.zeros(4, np.float32)
        with pytest.raises(RunError, match=r"step\(\) returned the observation ndarray of shape \(4,\)"):
            env.step(ACTIONS)


def test_vector_of_environments_with_different_spaces_is_refused():
    random.seed(0)
    with register_odd(Oddity()) as env_id:

        def make(render_mode=None):
            return odd_envs.Odd(Oddity(observation_space=spaces.Box(-1, random.random(), (3,), np.float32)))

        gymnasium.registry[env_id].entry_point = make
        with pytest.raises(UserError, match="its spaces differ between instances"):
            environments.make_vector_env(env_id, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16])
def test_matrix_of_floats_is_not_cast_to_the_type_of_its_space(dtype):
    obs = roll_out(observation_space=spaces.Box(0, 200, (2, 3), dtype), obs="outside")[0]
    assert (obs.shape[-1], obs.dtype) == (6, np.float32)
    assert (obs >= 1000).all()


def test_matrix_of_another_shape_with_as_many_numbers_is_refused():
    with register_odd(Oddity(observation_space=spaces.Box(-10, 10, (2, 3)))) as env_id:
        env = environments.make_env(env_id)
        env.unwrapped.observe = lambda: np.zeros((3, 2), np.float32)
        with pytest.raises(RunError, match=r"shape \(3, 2\) .*, but observation_space has shape \(2, 3\)"):
            env.reset(seed=0)


@pytest.mark.parametrize(
    "reward",
    [
        torch.tensor([1.5], requires_grad=True),
        torch.tensor(1.5, dtype=torch.bfloat16),
        Decimal("1.5"),
        Fraction(3, 2),
        np.array([1.5], object),
    ],
    ids=repr,
)
def test_rewards_of_uncommon_types_are_numbers(reward, monkeypatch):
    monkeypatch.setitem(odd_envs.REWARDS, "other", reward)
    assert set(roll_out(reward="other", steps=5)[1].ravel()) == {1.5}


def test_observation_with_a_gradient_is_converted(monkeypatch):
    monkeypatch.setitem(odd_envs.OBSERVATIONS, "other", lambda obs, space: torch.tensor(obs, requires_grad=True))
    np.testing.assert_array_equal(PLAIN[0], roll_out(obs="other")[0])


@pytest.mark.filterwarnings("ignore:this is old")
def test_warnings_of_a_users_code_are_no_findings(monkeypatch):
    monkeypatch.setitem(odd_envs.INFOS, "other", lambda step: warnings.warn("this is old", DeprecationWarning, 2))
    assert check(info="other") == []


def test_finding_names_a_space_on_one_line(monkeypatch):
    monkeypatch.setitem(odd_envs.OBSERVATIONS, "other", lambda obs, space: obs * 0 - 1)
    [finding] = check(observation_space=spaces.MultiDiscrete([[2, 3], [2, 2]]), obs="other")
    assert "not in observation_space" in finding
    assert finding.isprintable()


def test_cure_is_that_of_the_method_that_failed(monkeypatch):
    with pytest.raises(UserError, match=r"reset\(\) failed: TypeError: .*; reset\(\) must return \(obs"):
        check(api="old reset", observation_space=spaces.Discrete(3))
    monkeypatch.setitem(odd_envs.INFOS, "other", lambda step: sum([], speed=3) if step else {})
    with pytest.raises(UserError, match=r"step\(\) failed: TypeError") as error:
        check(info="other")
    assert "define reset" not in str(error.value)


def test_normalizer_of_rewards_that_are_0_at_first_is_found(monkeypatch):
    monkeypatch.setitem(odd_envs.REWARDS, "zero", 0.0)
    [finding] = check(reward="zero", wrapper="NormalizeReward")
    assert "NormalizeReward normalizes with running statistics" in finding


def test_attributes_that_are_no_dictionary_are_skipped():
    class Proxy:
        __slots__ = ()

        def __getattr__(self, name):
            return 5

    with register_odd(Oddity()) as env_id:
        env = environments.make_env(env_id)
        env.unwrapped.proxy = Proxy()
        assert environments.check_env(env_id, env) == []
        env.close()


def test_constructors_draw_other_numbers_in_each_environment_and_run(monkeypatch):
    drawn, make_odd = [], odd_envs.make_odd

    def make(oddity, render_mode=None):
        drawn.append(np.random.random())  # noqa: NPY002
        return make_odd(oddity, render_mode)

    monkeypatch.setattr(odd_envs, "make_odd", make)
    with register_odd(Oddity()) as env_id:
        for seed in (0, 1, 0):
            with contextlib.ExitStack() as envs:
                open_envs(env_id, 2, {}, envs, Comm(), seed)
    assert drawn[:3] == drawn[6:]  # one to evaluate in, two to train in
    assert len(set(drawn)) == 6


def test_process_that_tries_an_environment_closes_it():
    with register_odd(Oddity(has_child=True)) as env_id:
        registry.try_out(env_id, None, {})
    assert odd_envs.Odd.num_open == 0


def test_environment_that_cannot_be_made_again_is_one_line():
    with register_odd(Oddity()) as env_id:
        env = environments.make_env(env_id)
        gymnasium.registry[env_id].entry_point = lambda render_mode=None: 1 // 0
        with pytest.raises(UserError, match="cannot make Odd-v0 again: ZeroDivisionError"):
            environments.make_vector_env(env_id, 2, single_env=env)
        env.close()
