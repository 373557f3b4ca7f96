"""PPO's policy, update, checkpoints and errors."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero.agents.base import AgentContext
from milozero.agents.nn.mlp import BatchNorm
from milozero.agents.ppo_agent import PPOAgent, standardize
from milozero.agents.ppo_config import PPOConfig
from milozero.agents.rollout import Rollout, rollout_generator
from milozero.helpers.comm import Comm
from milozero.helpers.errors import NonFiniteError, UserError
from tests.support.fakes import CountingEnv, on_workers

BOX, DISCRETE = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3)
SMALL = PPOConfig(p_perception_stack="mlp_8", v_perception_stack="mlp_8", batch_size=16, epochs=2)


def make_agent(space=BOX, config=SMALL, size=3, **context):
    context = {"num_envs": 4, "seed": 1} | context
    return PPOAgent(config, size, space, AgentContext(context.pop("comm", Comm()), **context))


def make_rollout(agent, space=BOX, steps=16, num_envs=4, size=3, seed=0):
    """Return a rollout with actions of the agent, a termination, a truncation and their padding steps."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(steps + 1, num_envs, size)).astype(np.float32)
    noise = np.stack([agent.sample_noise(rng, steps) for _ in range(num_envs)], axis=1)
    terminated, truncated = np.zeros((2, steps, num_envs), bool)
    terminated[4, 0] = truncated[7, 1] = True
    mask = np.ones((steps, num_envs), bool)
    mask[5, 0] = mask[8, 1] = False
    actions = np.stack([agent.sample_actions(obs[t], noise[t]) for t in range(steps)])
    rewards = rng.normal(size=(steps, num_envs)).astype(np.float32) * mask
    return Rollout(obs, actions, rewards, terminated, truncated, mask, [])


@pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["continuous", "discrete"])
@pytest.mark.parametrize(
    "options", [{}, {"layer_norm": True}, {"batch_norm_all": True}, {"shared_value": True}], ids=str
)
def test_ratio_is_1_in_the_first_minibatch(space, options):
    config = dataclasses.replace(SMALL, epochs=1, batch_size=64, **options)
    agent = make_agent(space, config)
    for seed in range(3):  # the normalizers are no longer the identity in the second rollout
        metrics = agent.update(make_rollout(agent, space, seed=seed), 0.0)
        assert abs(metrics["approx_kl"]) < 1e-6
        assert metrics["clip_fraction"] == 0


def test_update_returns_the_declared_metrics():
    agent = make_agent()
    assert set(agent.update(make_rollout(agent), 0.0)) == set(PPOAgent.Config.METRICS)


@pytest.mark.parametrize("recompute", [False, True])
def test_padding_steps_change_nothing(recompute):
    config = dataclasses.replace(SMALL, recompute_advantages=recompute, batch_size=64, normalize_rewards=False)
    first, second = make_agent(config=config), make_agent(config=config)
    rollout = make_rollout(first)
    other = dataclasses.replace(rollout, actions=rollout.actions.copy(), rewards=rollout.rewards.copy())
    padding = ~rollout.mask
    other.actions[padding] = 7.0  # the environment ignores these actions, so the agent must, too
    other.rewards[padding] = 7.0
    first.update(rollout, 0.0)
    second.update(other, 0.0)
    torch.testing.assert_close(first.optimizer.params.vector, second.optimizer.params.vector, rtol=0, atol=0)


def test_update_depends_on_the_environments_rewards():
    config = dataclasses.replace(SMALL, normalize_rewards=False)
    first, second = make_agent(config=config), make_agent(config=config)
    rollout = make_rollout(first)
    first.update(rollout, 0.0)
    second.update(dataclasses.replace(rollout, rewards=-rollout.rewards), 0.0)
    assert first.parameter_hash() != second.parameter_hash()


def test_normalizer_is_updated_once_with_every_step_but_padding():
    agent = make_agent(config=dataclasses.replace(SMALL, epochs=5))
    rollout = make_rollout(agent)
    agent.update(rollout, 0.0)
    assert agent.obs_normalizer.moments.count == rollout.mask.sum()
    np.testing.assert_allclose(agent.obs_normalizer.moments.mean, rollout.obs[:-1][rollout.mask].mean(0), atol=1e-6)


def test_predict_does_not_change_the_agent():
    agent = make_agent(config=dataclasses.replace(SMALL, batch_norm_all=True))
    agent.update(make_rollout(agent), 0.0)
    before = repr(agent.state_dict())
    for _ in range(3):
        agent.predict(np.ones(3))
    assert repr(agent.state_dict()) == before


def test_predict_normalizes_the_observation():
    agent = make_agent()
    agent.update(make_rollout(agent), 0.0)
    agent.obs_normalizer.moments.mean[:] = 100.0
    agent.obs_normalizer._freeze()
    shifted = agent.predict(np.full(3, 100.0))
    agent.obs_normalizer.moments.mean[:] = 0.0
    agent.obs_normalizer._freeze()
    np.testing.assert_allclose(agent.predict(np.zeros(3)), shifted, atol=1e-6)


@pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["continuous", "discrete"])
def test_restored_agent_learns_the_same_bits(space):
    config = dataclasses.replace(SMALL, batch_norm_all=True, rpo_alpha=0.1 if space is BOX else 0.0)
    saved, loaded = make_agent(space, config), make_agent(space, config, seed=9)
    saved.update(make_rollout(saved, space), 0.0)
    loaded.load_state_dict(saved.state_dict())
    loaded.load_rank_state_dict(saved.rank_state_dict())
    rollout = make_rollout(saved, space, seed=2)
    assert saved.update(rollout, 0.5) == loaded.update(rollout, 0.5)
    assert saved.parameter_hash() == loaded.parameter_hash()


def test_actions_in_the_rollout_are_not_clipped():
    agent = make_agent(config=dataclasses.replace(SMALL, log_std_init=2.0), size=1, space=spaces.Box(-1, 1, (1,)))
    rollout = next(rollout_generator(CountingEnv([50]), agent, 40, seed=0))
    assert np.abs(rollout.actions).max() > 1.0


def test_gaussian_starts_with_a_small_orthogonal_mean_layer_and_a_constant_std():
    agent = make_agent(config=dataclasses.replace(SMALL, log_std_init=-0.5))
    head = agent.network.head
    assert (head.log_std == -0.5).all()
    weight = head.output.weight
    torch.testing.assert_close(weight @ weight.T, 1e-4 * torch.eye(2), atol=1e-7, rtol=0)


def test_nonfinite_loss_raises_with_its_name_and_its_batch():
    agent = make_agent()
    before = agent.optimizer.params.vector.clone()
    rollout = make_rollout(agent)
    rollout.actions[0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="policy_loss is nan, caused by the batch of worker 0") as caught:
        agent.update(rollout, 0.0)
    evidence = caught.value.evidence
    assert torch.isnan(evidence["batch.actions"]).sum() == 1
    assert torch.equal(evidence["parameters"], before)


def test_nonfinite_parameter_raises_with_its_name():
    agent = make_agent(config=dataclasses.replace(SMALL, epochs=1, batch_size=64))
    agent.optimizer.base_lr[-1] = float("inf")  # the loss and gradient of the only step are still finite
    with pytest.raises(NonFiniteError, match=r"parameter value_head\.bias is not finite"):
        agent.update(make_rollout(agent), 0.0)


def test_nonfinite_error_names_the_worker_that_caused_it():
    def work(comm):
        agent = make_agent(comm=comm)
        rollout = make_rollout(agent, seed=comm.rank)
        if comm.rank == 1:
            rollout.actions[3, 0, 0] = np.inf
        with pytest.raises(NonFiniteError, match="worker 1") as caught:
            agent.update(rollout, 0.0)
        return caught.value.rank

    assert on_workers(2, work) == [1, 1]


def test_learning_rate_falls_linearly_to_0():
    agent = make_agent()
    before = agent.parameter_hash()
    assert agent.update(make_rollout(agent), 0.25)["learning_rate"] == pytest.approx(0.75 * SMALL.p_lr)
    after = agent.parameter_hash()
    agent.update(make_rollout(agent, seed=3), 1.0)
    assert before != after == agent.parameter_hash()


def test_policy_and_value_function_have_separate_learning_rates():
    agent = make_agent(config=dataclasses.replace(SMALL, v_lr=0.0))
    before = {name: p.clone() for name, p in agent.network.named_parameters()}
    agent.update(make_rollout(agent), 0.0)
    changed = {name for name, p in agent.network.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in changed} == {"policy", "head"}


def test_update_stops_early_at_target_kl():
    config = dataclasses.replace(SMALL, epochs=10, target_kl=1e-4, p_lr=0.05, clip_norm=0.0)
    agent = make_agent(config=config)
    assert agent.update(make_rollout(agent), 0.0)["epochs"] < 10


def test_rpo_perturbs_action_means_in_the_update_only():
    """Rahman & Xue 2022: log π(a; μ + z) = log π(a − z; μ)."""
    agent = make_agent(config=dataclasses.replace(SMALL, rpo_alpha=0.5, epochs=3))
    packed_batches = []
    agent.optimizer.run_epoch = lambda packed, size, rng: packed_batches.append(packed.matrix.clone())
    agent.optimizer.pop_metrics = lambda: dict.fromkeys(("policy_loss", "approx_kl"), 0.0)
    rollout = make_rollout(agent)
    plain = make_agent(config=SMALL)
    plain.optimizer.run_epoch, plain.optimizer.pop_metrics = agent.optimizer.run_epoch, agent.optimizer.pop_metrics
    agent.update(rollout, 0.0)
    plain.update(rollout, 0.0)
    *perturbed, original, _ = (matrix.numpy() for matrix in packed_batches)
    shifts = [matrix - original for matrix in perturbed]
    changed_columns = [np.flatnonzero(np.abs(shift).max(0) > 1e-6) for shift in shifts]
    assert all(len(columns) == 2 for columns in changed_columns)  # the two actions; not old_log_probs
    for shift in shifts:
        assert 0.4 < np.abs(shift).max() <= 0.5 + 1e-6
    assert not np.allclose(shifts[0], shifts[1])  # a new perturbation every epoch


def test_rpo_with_discrete_actions_is_refused():
    with pytest.raises(UserError, match="discrete ones have no mean"):
        make_agent(DISCRETE, dataclasses.replace(SMALL, rpo_alpha=0.5))


def test_value_loss_can_be_clipped():
    rollouts, results = [], []
    for clipped in (False, True):
        agent = make_agent(
            config=dataclasses.replace(SMALL, clip_value_loss=clipped, v_lr=0.05, clip_range=0.01, epochs=6)
        )
        rollouts.append(make_rollout(agent))
        agent.update(rollouts[-1], 0.0)
        results.append(agent.parameter_hash())
    assert results[0] != results[1]


def test_advantages_are_standardized_over_all_workers():
    values, mask = np.arange(12.0).reshape(6, 2), np.ones((6, 2), bool)
    mask[5, 1] = False
    per_worker = on_workers(2, lambda comm: standardize(values[:, [comm.rank]], mask[:, [comm.rank]], comm))
    valid = np.concatenate(per_worker, axis=1)[mask]
    assert abs(valid.mean()) < 1e-9
    assert valid.std() == pytest.approx(1.0)


@pytest.mark.parametrize("mean", [1000.0, 0.0])
def test_batch_norm_moments_are_exact_far_from_zero(mean):
    x = torch.from_numpy(np.random.default_rng(0).normal(mean, 0.1, (4000, 2)).astype(np.float32))
    layer = BatchNorm(2)
    layer.update_batch_norm(x, Comm())
    np.testing.assert_allclose(layer.var, x.double().numpy().var(0), rtol=1e-6)
    np.testing.assert_allclose(layer(x).detach().numpy().std(0), 1.0, rtol=2e-3)


@pytest.mark.parametrize("shared", [False, True])
def test_first_batch_norm_moments_are_those_of_normalized_observations(shared):
    agent = make_agent(config=dataclasses.replace(SMALL, batch_norm_all=True, shared_value=shared))
    rollout = make_rollout(agent)
    rollout.obs = (100.0 + 30.0 * rollout.obs).astype(np.float32)
    agent.update(rollout, 0.0)
    obs = agent.to_tensor(agent.obs_normalizer(rollout.obs[:-1][rollout.mask]))
    for stack in [agent.network.policy] + [agent.network.value] * (not shared):
        normalized = stack[1](stack[0](obs))  # linear, batch norm
        np.testing.assert_allclose(normalized.mean(0), 0.0, atol=0.01)
        np.testing.assert_allclose(normalized.std(0, correction=0), 1.0, atol=0.01)


def test_batch_norm_over_two_workers_equals_one_with_all_samples():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 3 + 5

    def learn(comm):
        layer = BatchNorm(3)
        layer.update_batch_norm(x[:15] if comm.rank == 0 else x[15:], comm)
        return layer(x).detach()

    first, second = on_workers(2, learn)
    assert torch.equal(first, second)
    torch.testing.assert_close(first.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(first.std(0), torch.ones(3), atol=0.05, rtol=0)


def test_agent_solves_a_simple_task():
    """The reward is 1 for actions above 0.3, so the mean action must exceed 0.3."""
    agent = make_agent(
        size=1,
        space=spaces.Box(-1, 1, (1,)),
        config=PPOConfig(p_perception_stack="mlp_16", p_lr=1e-2, batch_size=32),
        num_envs=2,
    )
    env = CountingEnv([10, 10])
    step = env.step
    env.step = lambda a: (lambda o, r, *ends: (o, r * (a[:, 0] > 0.3), *ends))(*step(a))
    for rollout in itertools.islice(rollout_generator(env, agent, 128, seed=0), 15):
        agent.update(rollout, 0.0)
    assert agent.predict(np.array([3.0]))[0] > 0.3


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"batch_norm_all": True}], ids=str)
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu"])
def test_actor_in_numpy_equals_the_policy_in_torch(options, activation):
    """Also after updates."""
    agent = make_agent(config=dataclasses.replace(SMALL, activation=activation, p_lr=0.05, **options))
    for seed in range(2):
        agent.update(make_rollout(agent, seed=seed), 0.0)
        obs = np.random.default_rng(seed).normal(size=(6, 3)).astype(np.float32)
        features = agent.network.policy(torch.from_numpy(obs))
        expected = agent.network.head.output(features).detach().numpy()
        np.testing.assert_allclose(agent.actor.mode(obs), expected, atol=1e-5)
