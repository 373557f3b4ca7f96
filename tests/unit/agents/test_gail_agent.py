"""GAIL's discriminator against numbers worked by hand and torch's autograd, and several workers."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero.agents.adversarial_config import GAILConfig
from milozero.agents.base import AgentContext
from milozero.agents.gail_agent import GAILAgent
from milozero.agents.nn.discriminator import SpectralLinear
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.helpers.comm import Comm
from tests.support.fakes import on_workers
from tests.support.steps import BOX, SIZE, N, T, check_resume, expert, imitation_context, rollout


def compute_features(agent, obs, actions):
    """Return the discriminator's features for unnormalized observations and for actions."""
    return agent.features(agent.obs_normalizer(obs), actions, obs, np.zeros(obs.shape[:-1], bool))


def make(comm=None, demos=None, imitation=None, iteration=0, compile=False, **config):
    demos = [expert()] if demos is None else demos
    context = imitation_context(comm, demos, iteration, compile, imitation)
    values = {"p_perception_stack": "mlp_8", "v_perception_stack": "mlp_8", "batch_size": 16, "epochs": 1}
    return GAILAgent(GAILConfig(**values | {"d_batch_size": 16} | config), SIZE, BOX, context)


def batch(rows=6, inputs=SIZE + 2, seed=0):
    rng = torch.Generator().manual_seed(seed)
    fields = {name: torch.randn(rows, inputs, generator=rng) for name in ("expert", "policy", "noise")}
    return fields | {"mix": torch.rand(rows, 1, generator=rng)}


def get_params(agent):
    return dict(agent.discriminator.named_parameters())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_cross_entropy_minus_the_entropy_bonus(smoothing):
    agent = make(d_penalty="none", d_ent_coef=0.5, d_label_smoothing=smoothing)
    fields = batch()
    total, metrics = agent.d_loss(get_params(agent), fields)
    expert, policy = (torch.sigmoid(agent.discriminator(fields[name])) for name in ("expert", "policy"))
    bce = torch.nn.functional.binary_cross_entropy
    cross_entropy = bce(expert, torch.full((6,), 1.0 - smoothing)) + bce(policy, torch.zeros(6))
    both = torch.cat([expert, policy])
    entropy = -(both * both.log() + (1 - both) * (1 - both).log()).mean()
    assert float(metrics["d_loss"]) == pytest.approx(float(cross_entropy), rel=1e-5)
    assert float(total) == pytest.approx(float(cross_entropy - 0.5 * entropy), rel=1e-5)
    assert float(metrics["d_prob_expert"]) == pytest.approx(float(expert.mean()), rel=1e-5)
    assert float(metrics["d_penalty"]) == 0.0


@pytest.mark.parametrize("kind", ["wgan", "one_sided", "dragan"])
def test_gradient_penalty_equals_autograd(kind):
    agent = make(d_penalty=kind, d_penalty_coef=3.0, d_ent_coef=0.0)
    fields = batch()
    total, metrics = agent.d_loss(get_params(agent), fields)
    mix = fields["mix"]
    points = fields["expert"] * (1 - mix) + mix * fields["policy"]
    if kind == "dragan":
        points = fields["expert"] + mix * fields["noise"]
    penalties = []
    for row in points:  # one by one, so that the gradients are independent
        row = row.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(agent.discriminator(row), row)
        excess = float(gradient.norm()) - 1.0
        penalties.append((max(excess, 0.0) if kind == "one_sided" else excess) ** 2)
    assert float(metrics["d_penalty"]) == pytest.approx(np.mean(penalties), rel=1e-4)
    assert float(total) == pytest.approx(float(metrics["d_loss"]) + 3.0 * np.mean(penalties), rel=1e-4)


def test_rewards_equal_the_formulas_and_are_finite_for_extreme_logits():
    logits = np.array([-1.0, 0.0, 2.0])
    d = 1 / (1 + np.exp(-logits))
    for kind, expected in (
        ("positive", -np.log(1 - d)),
        ("negative", np.log(d)),
        ("unbiased", np.log(d) - np.log(1 - d)),
    ):
        agent = make(d_reward=kind)
        np.testing.assert_allclose(agent.logits_to_reward(logits), expected)
        assert np.isfinite(agent.logits_to_reward(np.array([-1e4, 1e4]))).all()


def test_environments_reward_is_not_learned_from():
    agent, other = make(), make()
    agent.update(rollout(), 0.0)
    other.update(dataclasses.replace(rollout(), rewards=np.random.default_rng(3).normal(size=(T, N))), 0.0)
    assert agent.parameter_hash() == other.parameter_hash()


def test_discriminator_learns_to_recognize_the_expert_and_rewards_similar_steps():
    agent = make(d_lr=1e-2, d_steps=10, d_penalty_coef=0.1)
    metrics = [agent.update(rollout(seed), 0.0) for seed in range(10)]
    assert set(metrics[0]) == set(GAILAgent.Config.METRICS)
    assert metrics[-1]["d_loss"] < 0.7 * metrics[0]["d_loss"]
    assert metrics[-1]["d_prob_expert"] > 0.6 > 0.4 > metrics[-1]["d_prob_policy"]
    similar = compute_features(agent, expert().obs[:-1], expert().actions)
    other = compute_features(agent, rollout(99).obs[:-1], rollout(99).actions)
    assert (
        agent.logits_to_reward(agent.logits(similar)).mean() > 2 * agent.logits_to_reward(agent.logits(other)).mean()
    )


def test_expert_and_policy_features_are_normalized_and_clipped_alike():
    agent = make()
    agent.update(rollout(), 0.0)
    obs, actions = rollout(5).obs[:-1], 3.0 * rollout(5).actions
    features = compute_features(agent, obs, actions)
    np.testing.assert_allclose(features[..., :SIZE], agent.obs_normalizer(obs), rtol=1e-6)
    assert np.abs(features[..., SIZE:]).max() == 1.0
    assert compute_features(make(d_state_only=True), obs, actions).shape == (T, N, SIZE)


def record_discriminator_data(agent):
    """Replace the discriminator's update; return the dictionary that records its arguments."""
    recorded = {}

    def record(policy, count):
        recorded.update(policy=policy, count=count)
        return {}

    agent._update_discriminator = record
    return recorded


def test_absorbing_state_follows_terminations_but_not_truncations():
    agent = make(demos=[expert(terminated=True), expert()], d_absorbing=True)
    recorded = record_discriminator_data(agent)
    steps = rollout(terminated=[(3, 0), (8, 2), (T - 1, 1)])
    steps.truncated[5, 3], steps.mask[6, 3] = True, False
    agent.update(steps, 0.0)
    absorbing = recorded["policy"][:, -1] == 1.0
    assert absorbing.sum() == 2
    assert not recorded["policy"][absorbing, :-1].any()
    assert len(recorded["policy"]) == T * N - 1
    following = rollout(1)
    following.mask[0, 1] = False  # follows the termination in the last step of the previous rollout
    agent.update(following, 0.0)
    assert (recorded["policy"][:, -1] == 1.0).sum() == 1


def test_expert_has_one_absorbing_step_per_termination_at_any_subsampling():
    imitation = ImitationConfig(d_perception_stack="mlp_4", demo_subsampling=20)
    agent = make(demos=[expert(9, terminated=True), expert(19), expert(19, terminated=True)], imitation=imitation)
    assert agent.absorbing.expert_share == pytest.approx(2 / 49)
    agent = make(demos=[expert(9, terminated=True)], d_absorbing=True)
    assert float(agent.sample_expert(5000)[:, -1].mean()) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("scaled", [False, True])
def test_terminal_value_is_the_discounted_reward_of_the_absorbing_state_forever(scaled, monkeypatch):
    agent = make(
        demos=[expert()], d_absorbing=True, gamma=0.9, normalize_rewards=scaled, clip_obs=0.001, clip_reward=0.001
    )
    record_discriminator_data(agent)
    gae_rewards = []
    monkeypatch.setattr(
        "milozero.agents.ppo_agent.gae", lambda rewards, values, *_: gae_rewards.append(rewards) or 0 * values
    )
    steps = rollout(terminated=[(3, 0)])
    absorbing = float(agent.logits_to_reward(agent.logits(agent.absorbing_features()[None]))[0])
    reward = float(agent.logits_to_reward(agent.logits(compute_features(agent, steps.obs[:-1], steps.actions)))[3, 0])
    agent.update(steps, 0.0)
    assert agent.reward_scaler.std != 1.0 or not scaled
    expected = (0.001 if scaled else reward) + 9.0 * absorbing / agent.reward_scaler.std
    assert gae_rewards[0][3, 0] == pytest.approx(expected, rel=1e-4)


def test_discriminator_ignores_padding_steps():
    agent = make()
    recorded = record_discriminator_data(agent)
    agent.update(rollout(terminated=[(3, 0), (8, 2)]), 0.0)
    assert len(recorded["policy"]) == T * N - 2
    assert recorded["count"] == T * N  # the same number of minibatches on every worker


@pytest.mark.parametrize("norm", [False, True])
def test_ablation_by_noise_does_not_depend_on_the_expert(norm):
    """Two different experts lead to the same discriminator."""
    hashes = set()
    for demos in ([expert()], [expert(length=80, terminated=True)]):
        agent = make(demos=demos, d_ablation="none", d_batch_norm=norm, d_penalty="dragan")
        for seed in range(2):
            agent.update(rollout(seed), 0.0)
        moments = [buffer.sum().item() for buffer in agent.discriminator.buffers()]
        hashes.add((agent.parameter_hash(), *moments))
    assert len(hashes) == 1


@pytest.mark.parametrize("ablation", ["shuffled", "none"])
def test_ablation_keeps_at_most_the_marginal_distributions_of_the_expert(ablation):
    agent = make(d_ablation=ablation)
    if ablation == "shuffled":
        plain = make().expert
        np.testing.assert_allclose(np.sort(agent.expert.obs, 0), np.sort(plain.obs, 0))
        assert not any((agent.expert.obs == row).all(1).any() for row in plain.obs)
        return
    packed_batches = []
    agent.d_optimizer.run_epoch = lambda packed, size, rng: packed_batches.append(packed.matrix)
    agent.d_optimizer.pop_metrics = lambda: {"grad_norm": 0.0}
    agent._update_discriminator(np.zeros((8, SIZE + 2), np.float32), 64)
    expert_features = compute_features(agent, agent.expert.obs, agent.expert.actions)
    drawn = packed_batches[0][:, : SIZE + 2].numpy()
    assert not any(np.isclose(drawn, row).all(1).any() for row in expert_features)


@pytest.mark.parametrize("options", [{"d_batch_norm": True}, {"batch_norm_all": True, "d_absorbing": True}], ids=str)
def test_first_batch_norm_moments_of_the_discriminator_are_those_of_normalized_observations(options):
    demo = expert(1000, terminated=True)
    agent = make(demos=[dataclasses.replace(demo, obs=100.0 + 30.0 * demo.obs)], **options)
    steps = rollout()
    steps.obs = (100.0 + 30.0 * steps.obs).astype(np.float32)
    agent.update(steps, 0.0)
    features, mask = agent.rollout_features(steps)
    inputs = agent.to_tensor(np.concatenate([agent.sample_expert(2000)[: mask.sum()], features[mask]]))
    normalized = agent.discriminator.stack[1](agent.discriminator.stack[0](inputs))  # linear, batch norm
    np.testing.assert_allclose(normalized.std(0), 1.0, atol=0.3)  # other samples of the expert's steps


def test_discriminator_is_updated_every_g_steps_iterations():
    agent = make(g_steps=3)
    learned = [not math.isnan(agent.update(rollout(k), 0.0)["d_loss"]) for k in range(7)]
    assert learned == [True, False, False, True, False, False, True]
    resumed = make(g_steps=3, iteration=5)
    assert math.isnan(resumed.update(rollout(5), 0.0)["d_loss"])


def test_spectral_norm_of_every_layer_is_1():
    agent = make(d_spectral_norm=True, d_lr=1e-2)
    for seed in range(5):
        agent.update(rollout(seed), 0.0)
    layers = [layer for layer in agent.discriminator.modules() if isinstance(layer, SpectralLinear)]
    assert len(layers) == 3
    for layer in layers:
        normalized = layer.weight / (layer.left @ layer.weight @ layer.right)
        assert float(torch.linalg.matrix_norm(normalized, 2)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    "config",
    [{}, {"d_spectral_norm": True, "d_penalty": "dragan"}, {"d_batch_norm": True, "d_absorbing": True, "g_steps": 2}],
)
def test_resumed_agent_learns_the_same_bits(config):
    check_resume(lambda iteration: make(demos=[expert(terminated=True)], iteration=iteration, **config))


def test_parameters_stay_in_sync_if_one_worker_has_more_padding_steps():
    def work(comm):
        agent = make(comm)
        ends = [(t, 0) for t in range(0, T - 2, 2)] if comm.rank else []
        metrics = [agent.update(rollout(10 * comm.rank + k, ends), 0.0) for k in range(2)]
        return agent.parameter_hash(), metrics

    (one, first), (two, second) = on_workers(2, work)
    assert one == two
    np.testing.assert_equal(first, second)


def test_discrete_actions_are_one_hot_features():
    demos = [Episode(np.zeros((6, SIZE)), np.array([0, 1, 2, 0, 1]), np.ones(5), False, True)]
    context = AgentContext(Comm(), num_envs=N, demos=demos, imitation=ImitationConfig(d_perception_stack="mlp_4"))
    config = GAILConfig(p_perception_stack="mlp_4", batch_size=16, d_batch_size=16, epochs=1)
    agent = GAILAgent(config, SIZE, spaces.Discrete(3), context)
    steps = rollout()
    agent.update(dataclasses.replace(steps, actions=np.random.default_rng(0).integers(3, size=(T, N))), 0.0)
    assert agent.expert.actions.tolist() == [0, 1, 2, 0, 1]
    features = compute_features(agent, np.zeros((2, SIZE)), np.array([2, 0]))
    np.testing.assert_array_equal(features[:, SIZE:], [[0, 0, 1], [1, 0, 0]])


def test_bc_pretraining_initializes_the_policy_of_new_runs_only():
    demo = expert(length=200)
    demo = dataclasses.replace(demo, actions=0.5 * np.tanh(demo.obs[:-1, :2]))

    def distance(**config):
        agent = make(demos=[demo], p_lr=1e-2, **config)
        return float(((agent.predict_batch(demo.obs[:-1]) - demo.actions) ** 2).mean()), agent

    cold, untrained = distance()
    warm, agent = distance(bc_pretrain_epochs=40)
    again, resumed = distance(bc_pretrain_epochs=40, iteration=3)
    assert warm < 0.1 * cold
    assert again == cold
    np.testing.assert_allclose(agent.obs_normalizer.moments.mean, demo.obs[:-1].mean(0), rtol=1e-5)
    values = [each.network.value_head.weight.clone() for each in (untrained, agent, resumed)]
    assert all((value == values[0]).all() for value in values)
    assert agent.optimizer.steps == 0  # Adam's moments start with the policy gradient
    agent.update(rollout(), 0.0)
    assert agent.predict(demo.obs[0]).shape == (2,)


@pytest.mark.parametrize("subsampling", [20, 1000])
def test_bc_pretraining_accepts_fewer_steps_than_a_minibatch(subsampling):
    """One demonstration of 1000 steps at every 20th step has 50, and a minibatch 64."""
    demo = expert(length=1000)
    demo = dataclasses.replace(demo, actions=np.full((1000, 2), 0.7))
    imitation = ImitationConfig(d_perception_stack="mlp_4", demo_subsampling=subsampling)
    agent = make(demos=[demo], imitation=imitation, batch_size=64, bc_pretrain_epochs=300, p_lr=1e-2)
    assert len(agent.expert) == 1000 // subsampling
    np.testing.assert_allclose(agent.predict_batch(agent.expert.obs), 0.7, atol=0.1)


@pytest.mark.parametrize("ablation", ["shuffled", "none"])
def test_ablation_disables_bc_pretraining(ablation):
    cold, warm = (make(demos=[expert(length=200)], d_ablation=ablation, bc_pretrain_epochs=start) for start in (0, 3))
    assert warm.parameter_hash() == cold.parameter_hash()


def test_noise_has_as_many_absorbing_steps_as_the_expert():
    """Otherwise absorbing states would distinguish policy and noise, beyond the reward's sign."""
    agent = make(demos=[expert(terminated=True)], d_ablation="none", d_absorbing=True)
    drawn = agent.sample_expert(4000)
    assert (drawn == agent.absorbing_features()).all(1).mean() == pytest.approx(
        agent.absorbing.expert_share, abs=0.02
    )
    assert agent.absorbing.expert_share > 0.0


def test_workers_are_in_sync_after_bc_pretraining_on_separate_shares():
    def work(comm):
        agent = make(comm, demos=[expert(length=200)], bc_pretrain_epochs=3)
        return agent.parameter_hash(), agent.obs_normalizer.moments.mean.tolist()

    one, two = on_workers(2, work)
    assert one == two
