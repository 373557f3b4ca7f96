"""What SAC and TD3 share: acting, the number of updates, and several workers."""

import gymnasium
import numpy as np
import pytest

from milozero.agents.base import AgentContext
from milozero.agents.nn.deterministic import Deterministic
from milozero.agents.off_policy import MAX_SAMPLED
from milozero.agents.registry import agent_class, config_class
from milozero.agents.replay_buffer import Steps
from milozero.agents.rollout import Rollout
from milozero.helpers.comm import Comm
from milozero.helpers.errors import UserError
from tests.support.fakes import on_workers

SPACE = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
SMALL = {"p_perception_stack": "mlp_8", "q_perception_stack": "mlp_8", "batch_size": 4, "train_freq": 8}


def make(algo, comm=None, num_envs=2, **config):
    config = config_class(algo)(**SMALL | config)
    return agent_class(algo)(config, 3, SPACE, AgentContext(comm or Comm(), num_envs=num_envs))


def rollout(seed=0, steps=4, num_envs=2):
    rng = np.random.default_rng(seed)
    obs = rng.standard_normal((steps + 1, num_envs, 3)).astype(np.float32)
    actions = rng.uniform(-1, 1, (steps, num_envs, 2)).astype(np.float32)
    ends = np.zeros((steps, num_envs), bool)
    return Rollout(obs, actions, rng.standard_normal((steps, num_envs)).astype(np.float32), ends, ends, ~ends, [])


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_actions_are_uniform_until_learning_starts_and_the_policys_afterwards(algo):
    agent = make(algo, learning_starts=16, num_envs=500)
    obs = np.zeros((500, 3), np.float32)
    draw = lambda: agent.sample_actions(obs, agent.sample_noise(np.random.default_rng(1), 500))  # noqa: E731
    np.testing.assert_allclose(np.quantile(draw(), [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.1)
    agent.steps = 16
    expected = agent.actor.sample(agent.obs_normalizer(obs), np.random.default_rng(1).standard_normal((500, 2), "f4"))
    np.testing.assert_array_equal(draw(), expected)
    started = make(algo, learning_starts=16, init_from="data/checkpoints/x")  # a trained policy need not act randomly
    assert not np.array_equal(
        started.sample_noise(np.random.default_rng(1), 4), make(algo).sample_noise(np.random.default_rng(1), 4)
    )


def test_deterministic_policy_explores_with_clipped_noise():
    import torch

    head = Deterministic(4, 2, 0.3, torch.Generator())
    outputs = np.full((100_000, 2), np.arctanh(0.9), np.float32)
    actions = head.sample(outputs, head.sample_noise(np.random.default_rng(0), 100_000))
    assert actions.max() == 1.0
    inside = actions[actions < 1.0]
    assert len(inside) / actions.size == pytest.approx(0.6306, abs=0.005)  # P(z < 1/3)
    assert np.quantile(actions, 0.1586) == pytest.approx(0.6, abs=0.005)  # one standard deviation below
    np.testing.assert_allclose(head.mode(outputs), 0.9, rtol=1e-6)


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 36), (0.03, 0), (1.0, 72), (9.0, 648)])
def test_number_of_updates(ratio, expected):
    """Ten rollouts of 8 steps, the first of which only fills the buffer."""
    agent = make("sac", updates_per_step=ratio, learning_starts=16)
    for seed in range(10):
        agent.update(rollout(seed), 0.0)
    assert abs(agent.optimizer.steps - expected) < 4
    assert agent.optimizer.steps + agent._updates_due == pytest.approx(72 * ratio)
    assert ratio < 9 or agent.optimizer.steps > 9 * MAX_SAMPLED  # drawn in several parts


def test_workers_with_different_numbers_of_steps_take_the_same_updates():
    """As after a change of their number: one buffer is empty, the other one holds learning_starts steps."""

    def work(comm):
        agent = make("td3", comm, learning_starts=64, updates_per_step=0.5)
        for seed in range(8 * (comm.rank == 0)):
            agent.replay_buffer.add(Steps(*(getattr(rollout(seed), name) for name in Steps._fields)))
        metrics = [agent.update(rollout(100 * comm.rank + seed), 0.0) for seed in range(3)]
        return agent.optimizer.steps, agent.parameter_hash(), [each["buffer_size"] for each in metrics]

    first, second = on_workers(2, work)
    assert first == second
    assert first[0] == 24
    assert first[2] == [80, 96, 112]


def test_worker_that_has_only_padding_steps_lets_all_wait():
    def work(comm):
        agent = make("td3", comm, learning_starts=0)
        steps = rollout(comm.rank)
        if comm.rank:
            steps.mask[:] = False
        agent.update(steps, 0.0)
        return agent.optimizer.steps

    assert on_workers(2, work) == [0, 0]


def test_too_small_buffer_is_refused():
    with pytest.raises(UserError, match="--buffer_size=7 is too small: each worker needs at least --train_freq=8"):
        make("sac", buffer_size=7)
