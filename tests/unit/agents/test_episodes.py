"""The current episodes of a worker's environments: statistics, and exact restoring."""

import io

import numpy as np
import pytest
import torch

from milozero import environments
from milozero.agents.episodes import INTERRUPTED, EpisodeLog
from milozero.agents.rollout import rollout_generator
from milozero.environments.pool import EnvPoolVector
from tests.support import user_envs
from tests.support.fakes import CountingEnv, RandomAgent
from tests.support.restored_envs import check_restored, save_after, start

ENVS = [
    *("Hopper-v5", "CartPole-v1", "dmc:cartpole-swingup"),
    *("tests.support.user_envs:Bounded-v0", "tests.support.user_envs:DrawsGlobally-v0"),
]


@pytest.mark.parametrize("env_id", ENVS)
@pytest.mark.parametrize("stop", [1, 2, 3, 11])
def test_restored_environments_continue_with_the_same_bits(env_id, stop):
    """Bounded's episodes end with the last step of rollouts 3 and 11."""
    check_restored(env_id, 3, stop)


def test_only_the_current_episodes_are_repeated(monkeypatch):
    env = environments.make_vector_env("Hopper-v5", 3)
    rollouts, log = start(env)
    numbers, elapsed = np.zeros(3, int), np.zeros(3, int)
    for rollout in (next(rollouts) for _ in range(30)):
        for mask in rollout.mask:  # a padding step starts an episode
            numbers, elapsed = numbers + ~mask, np.where(mask, elapsed + 1, 0)
    state = log.state_dict(env)
    assert state["numbers"].tolist() == numbers.tolist()
    assert min(numbers) > 5
    assert state["num_actions"].tolist() == elapsed.tolist()
    steps, step = [], EnvPoolVector.step_single
    monkeypatch.setattr(EnvPoolVector, "step_single", lambda *args: steps.append(args) or step(*args))
    _, log = start(environments.make_vector_env("Hopper-v5", 3), state, 30)
    assert len(steps) == elapsed.sum() < 200


def test_checkpoints_of_many_long_episodes_are_small():
    """64 environments after 1000 steps with the 17 actions of Humanoid."""
    env = CountingEnv([1001] * 64, action_size=17)
    rollouts, log = rollout_generator(env, RandomAgent(17), 64_000, 0, episodes=(log := started(env))), log
    next(rollouts)
    buffer = io.BytesIO()
    torch.save(log.state_dict(env), buffer)
    assert log.num_steps_to_repeat() == 0  # nothing has to be restored
    assert buffer.tell() < 1.01 * 64_000 * 17 * 4


def started(env):
    log = EpisodeLog(env.num_envs)
    log.start_envs(env, 0)
    return log


def test_numbers_lengths_and_returns_equal_those_counted_by_hand():
    env = CountingEnv([5, 2])
    log = started(env)
    rollouts = rollout_generator(env, RandomAgent(), 8, 0, episodes=log)
    found = []
    for _ in range(4):
        next(rollouts)
        state = log.state_dict(env)
        found.append([state[name].tolist() for name in ("numbers", "num_actions", "lengths", "returns")])
    assert found == [
        [[0, 1], [4, 1], [4, 1], [4, 1]],
        [[1, 2], [2, 2], [2, 0], [2, 0]],  # environment 1 ended an episode with the last step
        [[2, 4], [0, 0], [0, 0], [0, 0]],  # both started one with the last step
        [[2, 5], [4, 1], [4, 1], [4, 1]],
    ]


@pytest.mark.parametrize("what", ["observation", "reward", "end", "error"])
def test_environment_that_does_not_follow_from_seed_and_actions_is_not_restored(monkeypatch, what):
    """It differs in the third step of an episode; Bounded has 7 steps, of which 5 are repeated."""
    env = environments.make_vector_env("tests.support.user_envs:Bounded-v0", 2)
    _, state = save_after(1, env, steps=5)
    step = user_envs.Bounded.step

    def changed(self, action):
        obs, reward, terminated, truncated, info = step(self, action)
        if self.left == 7:
            if what == "error":
                raise OverflowError("too far")
            obs, reward, terminated = obs + (what == "observation"), reward + (what == "reward"), what == "end"
        return obs, reward, terminated, truncated, info

    monkeypatch.setattr(user_envs.Bounded, "step", changed)
    log = EpisodeLog(2)
    log.load_state_dict(state, env, 1000)
    problem = log.start_envs(environments.make_vector_env("tests.support.user_envs:Bounded-v0", 2), 1, 4)
    assert ("raised OverflowError: too far" if what == "error" else "led to other steps") in problem
    assert log.obs is None


def test_environments_that_were_not_started_are_reset():
    env = environments.make_vector_env("CartPole-v1", 2)
    log = EpisodeLog(2, start=3)
    log.load_state_dict(EpisodeLog(2, start=3).state_dict(env), env, 1000)
    assert log.start_envs(env, 1, 4) == ""
    again = EpisodeLog(2, start=3)
    again.start_envs(env, 1, 4)
    np.testing.assert_array_equal(log.obs, again.obs)


def test_environments_that_start_later_have_other_seeds():
    """A run that is resumed with another number of workers does not repeat its episodes."""
    env, seeds = CountingEnv([9, 9]), []
    for iteration in (0, 5, 7):
        EpisodeLog(2, iteration).start_envs(env, 1)
        seeds += env.seeds
    assert len(set(seeds)) == 6


def test_restoring_can_be_interrupted_and_keeps_what_was_saved():
    env = environments.make_vector_env("CartPole-v1", 2)
    _, state = save_after(2, env)
    log, calls = EpisodeLog(2), []
    log.load_state_dict(state, env, 1000)
    assert log.num_steps_to_repeat() == state["num_actions"].sum() > 3
    assert log.start_envs(env, 1, 4, lambda: calls.append(1) or len(calls) == 3) == INTERRUPTED
    assert len(calls) == 3
    kept = log.state_dict(env)
    for name, value in state.items():
        np.testing.assert_array_equal(kept[name], value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("numbers", lambda value: value - 9, "impossible"),
        ("numbers", lambda value: value + 10**9, "impossible"),  # as many resets would take hours
        ("numbers", lambda value: value * 0 + 2**63 - 1, "impossible"),
        ("num_actions", lambda value: value + 1, "impossible"),
        ("lengths", lambda value: value + 1, "lengths"),
        ("actions", lambda value: value + 1, "not in the action space"),
        ("actions", lambda value: value - 2, "not in the action space"),
    ],
)
def test_impossible_states_are_refused(name, change, message):
    env = environments.make_vector_env("CartPole-v1", 2)
    _, state = save_after(2, env)
    with pytest.raises(ValueError, match=message):
        EpisodeLog(2).load_state_dict(state | {name: change(state[name])}, env, 1000)


def test_huge_array_of_a_few_bytes_is_refused():
    env = environments.make_vector_env("CartPole-v1", 2)
    _, state = save_after(2, env)
    state |= {"actions": torch.zeros(1).long().expand(10**9), "num_actions": torch.tensor([10**9, 0])}
    with pytest.raises(ValueError, match="incomplete"):
        EpisodeLog(2).load_state_dict(state | {"lengths": state["num_actions"]}, env, 10**10)


def test_actions_that_are_not_finite_are_refused():
    env = environments.make_vector_env("Hopper-v5", 2)
    _, state = save_after(1, env)
    with pytest.raises(ValueError, match="not in the action space"):
        EpisodeLog(2).load_state_dict(state | {"actions": state["actions"] * np.inf}, env, 1000)
