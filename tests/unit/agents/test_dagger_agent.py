"""DAgger with simple experts."""

import dataclasses

import numpy as np
import pytest
from gymnasium import spaces

from milozero.agents.base import AgentContext
from milozero.agents.dagger_agent import DAggerAgent
from milozero.agents.dagger_config import DAggerConfig
from milozero.helpers.comm import Comm
from tests.support.fakes import on_workers
from tests.support.steps import BOX, SIZE, N, T, check_resume, rollout


class Linear:
    """A linear expert without action limits."""

    def predict_batch(self, obs):
        return np.stack([0.3 * obs[:, 0], -0.2 * obs[:, 1]], axis=1).astype(np.float32)


class Sign:
    """An expert that thresholds the first observation."""

    def predict_batch(self, obs):
        return (obs[:, 0] > 0.0).astype(np.int64)


def make(comm=None, expert=None, space=BOX, iteration=0, **config):
    context = AgentContext(comm or Comm(), seed=1, iteration=iteration, num_envs=N, expert=expert or Linear())
    values = {"p_perception_stack": "mlp_32", "p_lr": 1e-2, "batch_size": 16, "epochs": 5} | config
    return DAggerAgent(DAggerConfig(**values), SIZE, space, context)


@pytest.mark.parametrize("loss", ["nll", "mse"])
def test_policy_converges_to_the_expert_on_its_own_rollouts(loss):
    agent = make(bc_loss=loss)
    metrics = [agent.update(rollout(k), k / 25) for k in range(25)]
    assert set(metrics[0]) == set(DAggerAgent.Config.METRICS)
    assert metrics[-1]["expert_distance"] < 0.3 * metrics[0]["expert_distance"]
    obs = np.random.default_rng(9).normal(size=(50, SIZE)).astype(np.float32)
    np.testing.assert_allclose(agent.predict_batch(obs), Linear().predict_batch(obs), atol=0.2)
    np.testing.assert_allclose(agent.predict(obs[0]), agent.predict_batch(obs)[0], rtol=1e-6)


def test_stochastic_evaluation_samples_from_the_policy_not_the_expert():
    agent, obs = make(dagger_beta_iters=100), np.ones(SIZE, np.float32)  # the expert acts in rollouts
    agent.expert = None  # as in --task=eval
    rng = np.random.default_rng(0)
    actions = np.stack([agent.sample_action(obs, rng) for _ in range(4000)])
    np.testing.assert_allclose(actions.mean(0), agent.predict(obs), atol=0.06)
    np.testing.assert_allclose(actions.std(0), np.exp(agent.config.log_std_init), rtol=0.05)


def test_expert_share_falls_linearly_from_1_to_0():
    agent = make(dagger_beta_iters=4)
    obs = np.random.default_rng(0).normal(size=(1000, SIZE)).astype(np.float32)
    noise = agent.sample_noise(np.random.default_rng(1), 1000)
    shares = []
    for k in range(6):
        by_expert = (agent.sample_actions(obs, noise) == np.clip(Linear().predict_batch(obs), -1, 1)).all(1)
        by_policy = (agent.sample_actions(obs, noise) == agent.predict_batch(obs)).all(1)
        assert (by_expert ^ by_policy).all()
        shares.append(float(by_expert.mean()))
        assert agent.update(rollout(k), 0.0)["expert_share"] == max(0.0, 1.0 - k / 4)
    np.testing.assert_allclose(shares, [1.0, 0.75, 0.5, 0.25, 0.0, 0.0], atol=0.05)
    assert make(dagger_beta_iters=0).expert_share == 0.0


def test_expert_actions_are_clipped_to_the_action_space():
    class Unclipped(Linear):
        def predict_batch(self, obs):
            return 50.0 * super().predict_batch(obs)

    agent = make(expert=Unclipped())
    agent.update(rollout(), 0.0)
    assert np.abs(agent.expert_actions).max() == 1.0


def test_padding_steps_are_not_labeled():
    agent = make()
    agent.update(rollout(terminated=[(3, 0), (8, 2)]), 0.0)
    assert agent.buffer_len == agent.num_queries == T * N - 2
    np.testing.assert_array_equal(
        agent.expert_actions[: agent.buffer_len],
        np.clip(Linear().predict_batch(agent.obs[: agent.buffer_len]), -1, 1),
    )


def test_buffer_is_a_uniform_sample_of_all_observations():
    agent = make(dagger_buffer_size=100, epochs=1)
    for k in range(60):
        steps = rollout(k)
        steps.obs[..., 0] = k
        agent.update(steps, 0.0)
    assert (agent.buffer_len, agent.num_queries) == (100, 60 * T * N)
    np.testing.assert_allclose(agent.expert_actions, np.clip(Linear().predict_batch(agent.obs), -1, 1))
    assert agent.obs[:, 0].mean() == pytest.approx(29.5, abs=6.0)  # 3.4 standard errors
    assert len(np.unique(agent.obs[:, 0])) > 35


def test_discrete_actions_are_learned_and_their_distance_is_a_fraction():
    agent = make(expert=Sign(), space=spaces.Discrete(2))
    metrics = []
    for k in range(20):
        steps = dataclasses.replace(rollout(k), actions=np.zeros((T, N), np.int64))
        metrics.append(agent.update(steps, 0.0))
    assert metrics[-1]["expert_distance"] < 0.15
    assert 0.2 < metrics[0]["expert_distance"] < 0.8


def test_resumed_agent_learns_the_same_bits():
    check_resume(lambda iteration: make(dagger_buffer_size=100, iteration=iteration))


def test_workers_with_separate_buffers_stay_in_sync():
    def work(comm):
        agent = make(comm)
        ends = [(t, 0) for t in range(0, T - 2, 2)] if comm.rank else []
        metrics = [agent.update(rollout(10 * comm.rank + k, ends), 0.0) for k in range(2)]
        return agent.parameter_hash(), metrics, agent.buffer_len

    (one, first, here), (two, second, there) = on_workers(2, work)
    assert one == two
    np.testing.assert_equal(first, second)
    assert here > there
    assert first[-1]["buffer_size"] == here + there
