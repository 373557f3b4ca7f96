"""AIRL's reward and potential against numbers worked by hand, and the transfer of the learned reward."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero.agents.adversarial_config import AIRLConfig
from milozero.agents.airl_agent import AIRLAgent
from milozero.agents.base import AgentContext
from milozero.agents.ppo_agent import PPOAgent
from milozero.agents.ppo_config import PPOConfig
from milozero.helpers.comm import Comm
from tests.support.fakes import on_workers
from tests.support.steps import BOX, SIZE, N, T, check_resume, expert, imitation_context, rollout

NETWORKS = {"p_perception_stack": "mlp_8", "v_perception_stack": "mlp_8", "batch_size": 16, "epochs": 1}


def make(comm=None, demos=None, iteration=0, space=BOX, compile=False, **config):
    context = imitation_context(comm, demos, iteration, compile)
    return AIRLAgent(AIRLConfig(**NETWORKS | {"d_batch_size": 16} | config), SIZE, space, context)


def forward(network, x):
    with torch.no_grad():
        return network(torch.from_numpy(np.asarray(x, np.float32))).numpy()


def log_probs(agent, obs, actions):
    with torch.no_grad():
        obs = torch.from_numpy(agent.obs_normalizer(obs))
        clipped = torch.from_numpy(np.clip(actions, -1.0, 1.0).astype(np.float32))  # like the environment
        return agent.network.head.log_prob(agent.network.policy(obs), clipped)[0].numpy()


@pytest.mark.parametrize("state_only", [True, False])
def test_logit_is_reward_plus_shaping_minus_log_prob(state_only):
    agent = make(d_state_only=state_only, gamma=0.9, d_reward="unbiased")
    agent.update(rollout(), 0.0)  # so that the normalizer is not the identity
    steps = rollout(1, terminated=[(3, 0)])
    features, mask = agent.rollout_features(steps)
    np.testing.assert_array_equal(mask, steps.mask)
    obs = agent.obs_normalizer(steps.obs)
    reward_inputs = obs[:-1] if state_only else np.concatenate([obs[:-1], np.clip(steps.actions, -1, 1)], axis=-1)
    potential = forward(agent.discriminator.potential, obs)
    shaping = 0.9 * np.where(steps.terminated, 0.0, potential[1:]) - potential[:-1]
    logp = log_probs(agent, steps.obs[:-1], steps.actions)
    f = forward(agent.discriminator.reward, reward_inputs) + shaping
    np.testing.assert_allclose(agent.logits(features), f - logp, rtol=1e-4, atol=1e-4)
    rewards = agent.logits_to_reward(agent.scores(features, mask))  # without an entropy bonus
    np.testing.assert_allclose(rewards, f - logp[mask].mean(), rtol=1e-4, atol=1e-4)


def test_expert_features_include_terminations_and_log_probs_of_the_current_policy():
    agent = make()
    features = agent.sample_expert(4000)
    ends = features[:, -2] == 0.0
    assert ends.mean() == pytest.approx(1 / 50, abs=0.01)
    np.testing.assert_allclose(
        np.unique(features[ends, :SIZE], axis=0), agent.obs_normalizer(expert().obs[49:50]), rtol=1e-6
    )
    k = 7
    row = np.flatnonzero(np.isclose(agent.expert.obs[:, 0], features[k, 0]))[0]
    logp = log_probs(agent, agent.expert.obs[row][None], agent.expert.actions[row][None])
    assert features[k, -1] == pytest.approx(float(logp[0]), rel=1e-5)
    np.testing.assert_allclose(features[k, SIZE : 2 * SIZE], agent.expert.next_obs[row], rtol=1e-6)


def test_mean_log_prob_is_over_the_steps_of_all_workers():
    """The workers have different actions and different numbers of steps."""

    def scores(comm):
        agent = make(comm)
        steps = rollout(comm.rank, terminated=[(3, 0)] * comm.rank)
        features, mask = agent.rollout_features(steps)
        return features[..., -1], mask, agent.logits(features) + features[..., -1] - agent.scores(features, mask)

    results = on_workers(2, scores)
    all_log_probs = np.concatenate([log_probs[mask] for log_probs, mask, _ in results])
    assert results[0][1].sum() != results[1][1].sum()
    for _, _, mean in results:
        np.testing.assert_allclose(mean, all_log_probs.mean(), atol=1e-4)


def test_gradient_penalty_covers_observations_only():
    """With constant g and h, only log π and 1 − terminated have a gradient, which the penalty excludes."""
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
    reward_model = make()
    reward_model.update(rollout(), 0.0)
    context = AgentContext(Comm(), seed=2, num_envs=N, reward_model=reward_model)
    hashes = []
    for rewards in (np.full((T, N), 1e6, np.float32), np.zeros((T, N), np.float32)):
        policy = PPOAgent(PPOConfig(**NETWORKS), SIZE, BOX, context)
        policy.update(dataclasses.replace(rollout(3), rewards=rewards), 0.0)
        hashes.append(policy.parameter_hash())
    assert hashes[0] == hashes[1]
    plain = PPOAgent(PPOConfig(**NETWORKS), SIZE, BOX, AgentContext(Comm(), seed=2, num_envs=N))
    steps = rollout(3, terminated=[(4, 1)])
    learned = reward_model.learned_reward(steps)
    assert learned[5, 1] == 0.0  # a padding step
    g = forward(reward_model.discriminator.reward, reward_model.obs_normalizer(steps.obs[:-1]))
    assert reward_model.mean_log_prob < -0.5
    expected = np.log1p(np.exp(g - reward_model.mean_log_prob))  # the form of the reward model's own policy
    np.testing.assert_allclose(learned[steps.mask], expected[steps.mask], rtol=1e-5)
    plain.update(dataclasses.replace(rollout(3), rewards=reward_model.learned_reward(rollout(3))), 0.0)
    assert plain.parameter_hash() == hashes[0]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"d_spectral_norm": True},
        {"d_batch_norm": True, "d_state_only": False},
        {"d_absorbing": True, "g_steps": 2},
    ],
)
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


@pytest.mark.parametrize("ablation", ["shuffled", "none"])
def test_ablation_contains_no_step_of_the_expert(ablation):
    agent = make(d_ablation=ablation)
    features = agent.sample_expert(200)[:, : 2 * SIZE]
    rows = np.concatenate([agent.obs_normalizer(part) for part in (expert().obs[:-1], expert().obs[1:])], axis=1)
    assert not any(np.isclose(features, row, atol=1e-6).all(1).any() for row in rows)


def test_discrete_actions_have_log_probs():
    demos = [dataclasses.replace(expert(), actions=np.arange(50) % 3)]
    agent = make(demos=demos, space=spaces.Discrete(3), d_state_only=False)
    steps = dataclasses.replace(rollout(), actions=np.random.default_rng(0).integers(3, size=(T, N)))
    metrics = agent.update(steps, 0.0)
    assert np.isfinite(metrics["d_loss"])
    features, _ = agent.rollout_features(steps)
    assert (features[..., -1] < 0.0).all()
    np.testing.assert_array_equal(features[..., 2 * SIZE : -2].argmax(-1), steps.actions)


ABSORBING = {"d_absorbing": True, "gamma": 0.9, "d_reward": "unbiased"}


def test_terminal_step_leads_to_the_absorbing_state_and_a_truncated_one_does_not():
    agent = make(**ABSORBING)
    steps = rollout(1, terminated=[(3, 0)])
    steps.truncated[5, 2], steps.mask[6, 2] = True, False
    features, mask = agent.rollout_features(steps)
    assert (mask != steps.mask).sum() == 1
    assert mask[4, 0]  # the padding step after the termination
    state_flag, next_flag = features[..., SIZE], features[..., 2 * SIZE + 1]
    assert np.argwhere(state_flag[mask]).size == 1
    assert sorted(map(tuple, np.argwhere(next_flag == 1.0))) == [(3, 0), (4, 0)]
    assert not features[3, 0, SIZE + 1 : 2 * SIZE + 1].any()  # the final observation is not seen
    assert features[5, 2, SIZE + 1 : 2 * SIZE + 1].any()
    np.testing.assert_array_equal(features[4, 0], agent.absorbing_features())
    assert (features[..., -2] == 1.0).all()  # every state has a successor


def test_shaping_changes_the_return_of_every_episode_by_minus_the_initial_potential():
    """Potential-based shaping (Ng et al. 1999), of an episode that terminates and then stays absorbed forever."""
    agent = make(**ABSORBING)
    steps = rollout(1, terminated=[(T - 1, 0)])
    features, _ = agent.rollout_features(steps)
    logits = agent.logits(features)[:, 0] + features[:, 0, -1]  # f of each step
    absorbed = agent.terminal_value()
    states = np.concatenate([agent.obs_normalizer(steps.obs[:-1, 0]), np.zeros((T, 1), np.float32)], axis=1)
    g = forward(agent.discriminator.reward, states)
    (g_absorbing,) = forward(agent.discriminator.reward, np.eye(SIZE + 1)[-1:])
    (h_first,) = forward(agent.discriminator.potential, states[:1])
    discounts = 0.9 ** np.arange(T)
    shaped = (discounts * logits).sum() + 0.9**T * absorbed
    unshaped = (discounts * g).sum() + 0.9**T * g_absorbing / (1.0 - 0.9)
    assert shaped - unshaped == pytest.approx(-float(h_first), rel=1e-3)


def test_optimal_discriminator_rewards_neither_survival_nor_termination():
    """At the optimum the logit is 0 everywhere: f = log π for steps and 0 in the absorbing state."""
    agent = make(**ABSORBING)
    steps = rollout(1, terminated=[(3, 0)])
    features, _ = agent.rollout_features(steps)
    agent.logits = lambda features: np.zeros(features.shape[:-1], np.float32)
    rewards = agent.logits_to_reward(agent.scores(features, steps.mask))
    assert rewards[steps.mask].mean() == pytest.approx(0.0, abs=1e-5)
    assert agent.terminal_value() == 0.0


def test_new_policy_receives_the_learned_reward_of_the_absorbing_state(monkeypatch):
    model = make(**ABSORBING)
    (g,) = forward(model.discriminator.reward, np.eye(SIZE + 1)[-1:])
    assert model.learned_terminal_value(0.99) == pytest.approx(100.0 * float(g), rel=1e-4)
    assert make().learned_terminal_value(0.99) == 0.0
    gae_rewards = []
    monkeypatch.setattr(
        "milozero.agents.ppo_agent.gae", lambda rewards, values, *_: gae_rewards.append(rewards) or 0 * values
    )
    steps = rollout(3, terminated=[(4, 1)])
    config = PPOConfig(**NETWORKS, gamma=0.5, normalize_rewards=False)
    PPOAgent(config, SIZE, BOX, AgentContext(Comm(), num_envs=N, reward_model=model)).update(steps, 0.0)
    learned = model.learned_reward(steps)
    assert gae_rewards[0][4, 1] == pytest.approx(learned[4, 1] + 0.5 * 2.0 * float(g), rel=1e-4)
    assert gae_rewards[0][3, 1] == pytest.approx(learned[3, 1], rel=1e-6)
