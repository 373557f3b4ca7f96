"""AIRL's reward and potential against numbers worked by hand, and what the learned reward is good for."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero.agents.airl_agent import AIRLAgent
from milozero.agents.airl_config import AIRLConfig
from milozero.agents.base import AgentContext
from milozero.agents.ppo_agent import PPOAgent
from milozero.agents.ppo_config import PPOConfig
from milozero.demonstrations.dataset import ImitationConfig
from milozero.helpers.comm import Comm
from tests.support.fakes import on_workers
from tests.support.steps import BOX, SIZE, N, T, check_resume, expert, rollout

NETWORKS = {"p_perception_stack": "mlp_8", "v_perception_stack": "mlp_8", "batch_size": 16, "epochs": 1}


def make(comm=None, demos=None, iteration=0, space=BOX, compile=False, **config):
    context = AgentContext(
        comm or Comm(),
        seed=1,
        iteration=iteration,
        num_envs=N,
        demos=[expert(terminated=True)] if demos is None else demos,
        imitation=ImitationConfig(d_perception_stack="mlp_16"),
        compile=compile,
    )
    return AIRLAgent(AIRLConfig(**NETWORKS | {"d_batch_size": 16} | config), SIZE, space, context)


def numbers(network, x):
    with torch.no_grad():
        return network(torch.from_numpy(np.asarray(x, np.float32))).numpy()


def log_probs(agent, obs, actions):
    with torch.no_grad():
        seen = torch.from_numpy(agent.obs_normalizer(obs))
        done = torch.from_numpy(np.clip(actions, -1.0, 1.0).astype(np.float32))  # as the environment does
        return agent.network.head.log_prob(agent.network.policy(seen), done)[0].numpy()


@pytest.mark.parametrize("state_only", [True, False])
def test_logit_is_reward_plus_shaping_minus_log_prob(state_only):
    agent = make(d_state_only=state_only, gamma=0.9, d_reward="unbiased")
    agent.update(rollout(), 0.0)  # the normalizer is no longer the identity
    steps = rollout(1, terminated=[(3, 0)])
    inputs, seen = agent.rollout_features(steps)
    np.testing.assert_array_equal(seen, steps.mask)
    obs = agent.obs_normalizer(steps.obs)
    rewarded = obs[:-1] if state_only else np.concatenate([obs[:-1], np.clip(steps.actions, -1, 1)], axis=-1)
    potential = numbers(agent.discriminator.potential, obs)
    shaping = 0.9 * np.where(steps.terminated, 0.0, potential[1:]) - potential[:-1]
    logp = log_probs(agent, steps.obs[:-1], steps.actions)
    f = numbers(agent.discriminator.reward, rewarded) + shaping
    np.testing.assert_allclose(agent.logits(inputs), f - logp, rtol=1e-4, atol=1e-4)
    scores = agent.logits_to_reward(agent.scores(inputs, seen))  # a noisy action is not paid for
    np.testing.assert_allclose(scores, f - logp[seen].mean(), rtol=1e-4, atol=1e-4)


def test_expert_features_include_terminations_and_log_probs_of_the_current_policy():
    agent = make()
    seen = agent.sample_expert(4000)
    ends = seen[:, -2] == 0.0
    assert ends.mean() == pytest.approx(1 / 50, abs=0.01)
    np.testing.assert_allclose(
        np.unique(seen[ends, :SIZE], axis=0), agent.obs_normalizer(expert().obs[49:50]), rtol=1e-6
    )
    k = 7
    row = np.flatnonzero(np.isclose(agent.expert.obs[:, 0], seen[k, 0]))[0]
    logp = log_probs(agent, agent.expert.obs[row][None], agent.expert.actions[row][None])
    assert seen[k, -1] == pytest.approx(float(logp[0]), rel=1e-5)
    np.testing.assert_allclose(seen[k, SIZE : 2 * SIZE], agent.expert.next_obs[row], rtol=1e-6)


def test_mean_log_prob_is_over_the_steps_of_all_workers():
    """Worker 0 has steps with certain actions and worker 1 others, and not as many."""

    def scores(comm):
        agent = make(comm)
        steps = rollout(comm.rank, terminated=[(3, 0)] * comm.rank)
        inputs, seen = agent.rollout_features(steps)
        return inputs[..., -1], seen, agent.logits(inputs) + inputs[..., -1] - agent.scores(inputs, seen)

    results = on_workers(2, scores)
    every = np.concatenate([log_probs[seen] for log_probs, seen, _ in results])
    assert results[0][1].sum() != results[1][1].sum()
    for _, _, mean in results:
        np.testing.assert_allclose(mean, every.mean(), atol=1e-4)


def test_gradient_penalty_covers_observations_only():
    """With g and h constant, only log π and the end's factor have a gradient, and those are not looked at."""
    agent = make(d_penalty="wgan")
    with torch.no_grad():
        for head in (agent.discriminator.reward.head, agent.discriminator.potential.head):
            head.weight.zero_()
    fields = {
        name: torch.from_numpy(agent.sample_expert(8)) if name != "mix" else torch.rand(8, 1)
        for name in ("expert", "policy", "mix")
    }
    _, metrics = agent.d_loss(dict(agent.discriminator.named_parameters()), fields)
    assert float(metrics["d_penalty"]) == pytest.approx(1.0, abs=1e-4)  # (0 − 1)²


def test_learned_reward_is_higher_for_the_experts_states():
    agent = make(d_lr=1e-2, d_steps=10, d_penalty_coef=0.1)
    metrics = [agent.update(rollout(seed), 0.0) for seed in range(8)]
    assert set(metrics[0]) == set(AIRLAgent.Config.METRICS)
    assert metrics[-1]["d_loss"] < 0.8 * metrics[0]["d_loss"]
    demo, other = expert(), rollout(99)
    as_rollout = dataclasses.replace(other, obs=np.repeat(demo.obs[: T + 1, None], N, axis=1).astype(np.float32))
    assert agent.learned_reward(as_rollout).mean() > agent.learned_reward(other).mean() + 0.5


def test_new_policy_learns_from_the_learned_reward_only():
    teacher = make()
    teacher.update(rollout(), 0.0)
    context = AgentContext(Comm(), seed=2, num_envs=N, reward_model=teacher)
    hashes = []
    for rewards in (np.full((T, N), 1e6, np.float32), np.zeros((T, N), np.float32)):
        student = PPOAgent(PPOConfig(**NETWORKS), SIZE, BOX, context)
        student.update(dataclasses.replace(rollout(3), rewards=rewards), 0.0)
        hashes.append(student.parameter_hash())
    assert hashes[0] == hashes[1]
    plain = PPOAgent(PPOConfig(**NETWORKS), SIZE, BOX, AgentContext(Comm(), seed=2, num_envs=N))
    steps = rollout(3, terminated=[(4, 1)])
    learned = teacher.learned_reward(steps)
    assert learned[5, 1] == 0.0  # a dead row
    g = numbers(teacher.discriminator.reward, teacher.obs_normalizer(steps.obs[:-1]))
    assert teacher.mean_log_prob < -0.5
    expected = np.log1p(np.exp(g - teacher.mean_log_prob))  # the form by which the teacher's own policy learned
    np.testing.assert_allclose(learned[steps.mask], expected[steps.mask], rtol=1e-5)
    plain.update(dataclasses.replace(rollout(3), rewards=teacher.learned_reward(rollout(3))), 0.0)
    assert plain.parameter_hash() == hashes[0]


@pytest.mark.parametrize("config", [{}, {"d_spectral_norm": True}, {"d_batch_norm": True, "d_state_only": False}])
def test_resumed_agent_learns_the_same_bits(config):
    check_resume(lambda iteration: make(iteration=iteration, **config))


def test_parameters_stay_in_sync():
    def work(comm):
        agent = make(comm, d_batch_norm=True)
        metrics = [agent.update(rollout(10 * comm.rank + k), 0.0) for k in range(2)]
        return agent.parameter_hash(), metrics

    (one, first), (two, second) = on_workers(2, work)
    assert one == two
    np.testing.assert_equal(first, second)


@pytest.mark.parametrize("control", ["shuffled", "none"])
def test_ablation_contains_no_step_of_the_expert(control):
    agent = make(d_ablation=control)
    seen = agent.sample_expert(200)[:, : 2 * SIZE]
    own = np.concatenate([agent.obs_normalizer(part) for part in (expert().obs[:-1], expert().obs[1:])], axis=1)
    assert not any(np.isclose(seen, row, atol=1e-6).all(1).any() for row in own)


def test_discrete_actions_have_log_probs():
    demos = [dataclasses.replace(expert(), actions=np.arange(50) % 3)]
    agent = make(demos=demos, space=spaces.Discrete(3), d_state_only=False)
    steps = dataclasses.replace(rollout(), actions=np.random.default_rng(0).integers(3, size=(T, N)))
    metrics = agent.update(steps, 0.0)
    assert np.isfinite(metrics["d_loss"])
    seen, _ = agent.rollout_features(steps)
    assert (seen[..., -1] < 0.0).all()
    np.testing.assert_array_equal(seen[..., 2 * SIZE : -2].argmax(-1), steps.actions)
