"""GAIL and AIRL against independent implementations: losses, gradients, rewards and updates."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero.agents.adversarial_config import AIRLConfig, GAILConfig
from milozero.agents.airl_agent import AIRLAgent
from milozero.agents.base import AgentContext
from milozero.agents.gail_agent import GAILAgent
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.helpers.comm import Comm
from tests.support.discriminator_reference import (
    SEED,
    SIZE,
    AdversarialReference,
    PlainAIRL,
    PlainGAIL,
    compute_reward,
    discriminator_loss,
)
from tests.support.fakes import on_workers
from tests.support.plain import assert_same_metrics, assert_same_parameters, copy_parameters, make_rollouts

BOX, DISCRETE = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3)
LEARNING = {
    "p_perception_stack": "mlp_8",
    "v_perception_stack": "mlp_7_6",
    "p_lr": 0.005,
    "v_lr": 0.005,
    "gamma": 0.9,
    "batch_size": 32,
    "epochs": 1,
    "d_batch_size": 32,
    "d_lr": 0.02,
}


def demonstrations(space, lengths=((8, True), (9, False), (1, True), (4, True))):
    """Return episodes of the given lengths, terminated or not, with some actions beyond the limits."""
    rng, episodes = np.random.default_rng(8), []
    for length, terminated in lengths:
        obs = rng.normal([1.0, 0.0, 0.3], [1.0, 3.0, 0.3], (length + 1, SIZE)).astype(np.float32)
        actions = (
            rng.normal(0.5, 0.5, (length, 2)).astype(np.float32) if space.shape else rng.integers(3, size=length)
        )
        episodes.append(Episode(obs, actions, np.ones(length), terminated, not terminated))
    return episodes


def make(algorithm, space=BOX, comm=None, num_envs=4, **options):
    agents = {"gail": (GAILAgent, GAILConfig, PlainGAIL), "airl": (AIRLAgent, AIRLConfig, PlainAIRL)}
    agent_type, config_type, plain_type = agents[algorithm]
    config = config_type(**LEARNING | options)
    context = AgentContext(
        comm or Comm(),
        seed=SEED,
        num_envs=num_envs,
        demos=demonstrations(space),
        imitation=ImitationConfig(d_perception_stack="mlp_6_5"),
    )
    return agent_type(config, SIZE, space, context), plain_type(config, space)


def check_three_updates(algorithm, space=BOX, **options):
    agent, plain = make(algorithm, space, **options)
    reference = AdversarialReference(agent, plain, space, demonstrations(space))
    for k, rollout in enumerate(make_rollouts(space, seed=3)):
        actual, expected = agent.update(rollout, k / 4), reference.update([rollout], k / 4)
        assert set(expected) == set(actual)
        assert_same_metrics(expected, actual)
        assert_same_parameters(plain.agent_network, agent.discriminator)
        assert_same_parameters(reference.ppo.network, agent.network)


PENALTIES = ("none", "wgan", "one_sided", "dragan")


@pytest.mark.parametrize("algorithm", ["gail", "airl"])
@pytest.mark.parametrize(
    "options",
    [
        *({"d_penalty": penalty} for penalty in PENALTIES),
        {"d_label_smoothing": 0.2, "d_ent_coef": 0.3, "d_reward": "unbiased"},
        {"d_reward": "negative", "d_steps": 2},
        {"g_steps": 2, "d_penalty_coef": 0.5},
        {"d_batch_norm": True},
    ],
    ids=str,
)
def test_three_updates_equal_the_references(algorithm, options):
    check_three_updates(algorithm, **options)


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("gail", {"d_state_only": True}),
        ("gail", {"d_absorbing": True}),
        ("gail", {"d_absorbing": True, "d_reward": "negative", "normalize_rewards": False, "d_batch_norm": True}),
        ("airl", {"d_state_only": False}),
        ("airl", {"d_state_only": False, "d_reward": "unbiased", "d_penalty": "dragan"}),
        ("airl", {"d_absorbing": True}),
        ("airl", {"d_absorbing": True, "d_state_only": False, "d_reward": "unbiased", "d_batch_norm": True}),
    ],
    ids=str,
)
def test_features_equal_the_references(algorithm, options):
    for space in (BOX, DISCRETE):
        check_three_updates(algorithm, space, **options)


@pytest.mark.parametrize(
    ("algorithm", "options"), [("gail", {"d_absorbing": True}), ("airl", {}), ("airl", {"d_absorbing": True})]
)
def test_two_workers_equal_one_reference_with_the_data_of_both(algorithm, options):
    options = options | {"batch_size": 16, "d_batch_size": 16, "d_batch_norm": True}
    data = [make_rollouts(BOX, num_envs=2, seed=seed, ends=ends) for seed, ends in ((1, 0.3), (2, 0.02))]
    reference = AdversarialReference(*make(algorithm, **options), BOX, demonstrations(BOX), workers=2)
    expected = [reference.update(pair, 0.0) for pair in zip(*data, strict=True)]

    def work(comm):
        agent, _ = make(algorithm, comm=comm, num_envs=2, **options)
        return agent, [agent.update(rollout, 0.0) for rollout in data[comm.rank]]

    for agent, actual in on_workers(2, work):
        assert_same_parameters(reference.discriminator.agent_network, agent.discriminator)
        assert_same_parameters(reference.ppo.network, agent.network)
        for one, other in zip(expected, actual, strict=True):
            assert_same_metrics(one, other)


def minibatch(columns, rows=8, steep=1.5):
    rng = torch.Generator().manual_seed(0)
    fields = {
        name: steep * torch.randn(rows, columns, generator=rng, dtype=torch.float64)
        for name in ("expert", "policy", "noise")
    }
    return fields | {"mix": torch.rand(rows, 1, generator=rng, dtype=torch.float64)}


@pytest.mark.parametrize("algorithm", ["gail", "airl"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("more", [{"activation": "elu"}, {"d_spectral_norm": True}], ids=str)
def test_loss_and_gradient_equal_the_references(algorithm, penalty, more):
    """The reference's gradient, which is a second derivative, is also checked by finite differences."""
    options = {"d_penalty": penalty, "d_label_smoothing": 0.1, "d_ent_coef": 0.2} | more
    agent, plain = make(algorithm, **options)
    copy_parameters(plain.agent_network, agent.discriminator)
    with torch.no_grad():  # so that one-sided penalties include some rows and exclude others
        for parameter in (*plain.parameters(), *agent.discriminator.parameters()):
            parameter.mul_(1.3).add_(0.1)
    for _ in range(200):
        agent.discriminator.refresh()  # until power iteration converges
    batch = minibatch(plain.penalty_dims if algorithm == "gail" else plain.penalty_dims + 2)
    loss, metrics = discriminator_loss(plain, agent.config, batch)
    gradients = torch.autograd.grad(loss, list(plain.parameters()))

    params = {name: p.clone().requires_grad_() for name, p in agent.discriminator.named_parameters()}
    actual_loss, actual_metrics = agent.d_loss(params, {name: field.float() for name, field in batch.items()})
    actual = dict(zip(params, torch.autograd.grad(actual_loss, list(params.values())), strict=True))
    assert actual_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    expected = {name: value.item() for name, value in metrics.items()}
    assert {name: value.item() for name, value in actual_metrics.items()} == pytest.approx(expected, rel=1e-4)
    for (name, parameter), gradient in zip(plain.agent_network.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(actual[name].double(), gradient, rtol=1e-3, atol=1e-4)
        index = (0,) * parameter.dim()
        losses = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                parameter[index] += step
            losses.append(float(discriminator_loss(plain, agent.config, batch)[0].detach()))
        with torch.no_grad():
            parameter[index] += 1e-6
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(float(gradient[index]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("algorithm", ["gail", "airl"])
def test_one_sided_penalty_ignores_small_gradients(algorithm):
    results = {}
    for penalty in PENALTIES:
        agent, plain = make(algorithm, d_penalty=penalty)
        flat = {name: 0.01 * p for name, p in agent.discriminator.named_parameters()}
        batch = minibatch(plain.penalty_dims + (2 if algorithm == "airl" else 0))
        results[penalty] = float(agent.d_loss(flat, {n: f.float() for n, f in batch.items()})[1]["d_penalty"])
    assert results == pytest.approx({"none": 0.0, "one_sided": 0.0, "wgan": 1.0, "dragan": 1.0}, abs=1e-3)


def test_rewards_equal_numbers_worked_by_hand():
    """For D = 3/4: −log(1/4), log(3/4) and log 3."""
    score = np.array([math.log(3.0)])
    expected = {"positive": math.log(4.0), "negative": math.log(0.75), "unbiased": math.log(3.0)}
    for form, reward in expected.items():
        agent, _ = make("gail", d_reward=form)
        assert agent.logits_to_reward(score)[0] == pytest.approx(reward, rel=1e-12)
        assert compute_reward(score, form)[0] == pytest.approx(reward, rel=1e-12)
