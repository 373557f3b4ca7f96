"""Agents that start from the networks and normalizers of others."""

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero.agents import agent_class, config_class
from milozero.agents.base import AgentContext
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.evaluation.loading import LoadedAgent
from milozero.helpers.comm import Comm
from milozero.helpers.errors import UserError
from milozero.training.build import init_agent
from tests.support.fakes import on_workers
from tests.support.steps import BOX, SIZE, N, T, rollout

NETWORKS = {"p_perception_stack": "mlp_8", "batch_size": 16, "epochs": 1, "p_lr": 0.01}
DEMO = Episode(
    np.random.default_rng(7).normal(2.0, 3.0, (51, SIZE)).astype(np.float32),
    np.random.default_rng(8).uniform(-1.0, 1.0, (50, 2)).astype(np.float32),
    np.ones(50),
    True,
    False,
)
PARTS = {
    "bc": ["observation normalizer"],
    "dagger": ["observation normalizer"],
    "ppo": ["observation normalizer", "value network", "reward normalizer"],
    "gail": ["observation normalizer", "value network", "reward normalizer", "discriminator"],
    "airl": ["observation normalizer", "value network", "reward normalizer", "discriminator"],
}


class Expert:
    def predict_batch(self, obs):
        return np.zeros((len(obs), 2), np.float32)


def make(algo, seed=1, comm=None, trained=False, space=BOX, iteration=0, **config):
    """Return an agent, optionally after two updates."""
    demo = DEMO if space.shape else dataclasses.replace(DEMO, actions=np.arange(50) % 3)
    context = AgentContext(
        comm or Comm(),
        seed=seed,
        iteration=iteration,
        num_envs=N,
        demos=[demo],
        imitation=ImitationConfig(d_perception_stack="mlp_4"),
        expert=Expert(),
    )
    known = {field.name for field in dataclasses.fields(config_class(algo))}
    values = {"v_perception_stack": "mlp_8", "d_batch_size": 16, **NETWORKS} | config
    values = {name: value for name, value in values.items() if name in known}
    agent = agent_class(algo)(config_class(algo)(**values), SIZE, space, context)
    for k in range(2 * trained):
        steps = rollout(seed + k)
        if not space.shape:
            steps = dataclasses.replace(steps, actions=np.random.default_rng(k).integers(3, size=(T, N)))
        agent.update(dataclasses.replace(steps, rewards=np.random.default_rng(k).normal(size=(T, N))), 0.0)
    return agent


def copied(parts):
    """Return the parts that were copied, without the numbers in parentheses."""
    return {name.split(" (")[0] for name, value in parts.items() if value}


def value_parameters(agent):
    return torch.cat([value.flatten() for name, value in agent.network.state_dict().items() if "value" in name])


@pytest.mark.parametrize("source", PARTS)
@pytest.mark.parametrize("algo", PARTS)
def test_policy_and_normalizer_of_any_algorithm_are_copied(algo, source):
    other, agent = make(source, trained=True), make(algo, seed=5)
    before = value_parameters(agent) if "value network" in PARTS[algo] else None
    parts = agent.init_from(other)
    obs = np.random.default_rng(0).normal(2.0, 3.0, (7, SIZE)).astype(np.float32)
    np.testing.assert_array_equal(agent.predict_batch(obs), other.predict_batch(obs))
    assert torch.equal(agent.network.head.log_std, other.network.head.log_std)
    assert agent.obs_normalizer.moments.count == other.obs_normalizer.moments.count > 0
    assert list(parts)[1:] == PARTS[algo]
    assert copied(parts) == {"policy", *(PARTS[algo] if algo == source else ["observation normalizer"])}
    if before is not None:
        fits = algo == source
        assert torch.equal(value_parameters(agent), value_parameters(other) if fits else before)
        assert (agent.reward_scaler.std == other.reward_scaler.std if fits else 1.0) or not fits
        assert not agent.reward_scaler.returns.any()  # of episodes in progress
    assert agent.optimizer.steps == 0
    assert not agent.optimizer.moment1.any()
    assert not agent.optimizer.moment2.any()
    if algo not in ("bc", "dagger"):
        assert np.isfinite(list(agent.update(rollout(9), 0.0).values())).all()


def test_summary_names_the_standard_deviation_and_init_log_std_replaces_it():
    other = make("bc", trained=True)
    with torch.no_grad():
        other.network.head.log_std.copy_(torch.tensor([-4.0, -3.0]))
    kept, widened = make("ppo"), make("ppo", init_log_std=-1.0)
    assert next(iter(kept.init_from(other))) == "policy (standard deviation 0.018 to 0.05)"
    assert next(iter(widened.init_from(other))) == "policy (standard deviation 0.37 to 0.37)"
    assert widened.network.head.log_std.tolist() == [-1.0, -1.0]
    obs = rollout().obs[0]
    np.testing.assert_array_equal(widened.predict_batch(obs), other.predict_batch(obs))
    with pytest.raises(UserError, match=r"--init_log_std=-1\.0 needs continuous actions"):
        make("ppo", space=spaces.Discrete(3), init_log_std=-1.0)


@pytest.mark.parametrize("freezes", [True, False])
@pytest.mark.parametrize("algo", ["ppo", "gail", "dagger"])
def test_copied_normalizer_is_frozen_by_default(algo, freezes):
    agent = make(algo, seed=5, init_from="data/checkpoints/x", init_freeze_normalizer=freezes, p_lr=0.0)
    agent.init_from(make("bc", trained=True))
    obs = rollout().obs[0]
    before = agent.predict_batch(obs)
    agent.update(rollout(3), 0.0)
    assert np.array_equal(agent.predict_batch(obs), before) == freezes


@pytest.mark.parametrize("shared", [False, True])
def test_init_value_iters_train_only_the_value_network(shared):
    def start(iteration=0):
        options = {"init_from": "data/checkpoints/x", "init_value_iters": 2, "shared_value": shared}
        return make("ppo", seed=5, iteration=iteration, **options)

    agent = start()
    agent.init_from(make("bc", trained=True))
    policy, rates = [agent.network.policy.state_dict()["0.weight"].clone()], []
    values = [agent.network.value_head.weight.clone()]
    for k in range(3):
        if k == 1:  # a resumed run counts its iterations from the start
            state, rank_state = agent.state_dict(), agent.rank_state_dict()
            agent = start(iteration=1)
            agent.load_state_dict(state)
            agent.load_rank_state_dict(rank_state)
        rates.append(agent.update(rollout(k), 0.0)["learning_rate"])
        policy.append(agent.network.policy.state_dict()["0.weight"].clone())
        values.append(agent.network.value_head.weight.clone())
    assert rates == [0.0, 0.0, 0.01]
    assert [torch.equal(*pair) for pair in itertools.pairwise(policy)] == [True, True, False]
    assert [torch.equal(*pair) for pair in itertools.pairwise(values)] == [False, False, False]


def test_discrete_policy_is_copied():
    other, agent = (make(algo, space=spaces.Discrete(3), trained=algo == "bc") for algo in ("bc", "ppo"))
    assert copied(agent.init_from(other)) == {"policy", "observation normalizer"}
    obs = np.random.default_rng(0).normal(2.0, 3.0, (50, SIZE)).astype(np.float32)
    np.testing.assert_array_equal(agent.predict_batch(obs), other.predict_batch(obs))


@pytest.mark.parametrize(
    ("source", "own", "value", "normalizer"),
    [
        ({}, {}, True, True),
        ({"v_perception_stack": "mlp_6"}, {}, False, True),
        ({"shared_value": True}, {}, False, True),
        ({"shared_value": True}, {"shared_value": True}, True, True),
        ({"normalize_rewards": False}, {}, False, False),  # values in other units
        ({"normalize_rewards": False}, {"normalize_rewards": False}, True, None),
        ({"reward_path": "airl"}, {}, False, False),  # of another reward
        ({"reward_path": "airl"}, {"reward_path": "other"}, False, False),
        ({"reward_path": "airl"}, {"reward_path": "airl"}, True, True),
        ({"batch_norm_all": True}, {"batch_norm_all": True}, True, True),
    ],
    ids=str,
)
def test_value_network_is_copied_if_it_predicts_the_same_rewards(source, own, value, normalizer):
    other, agent = make("ppo", trained=True, **source), make("ppo", seed=5, **own)
    parts = agent.init_from(other)
    assert (parts["value network"], parts.get("reward normalizer")) == (value, normalizer)
    assert (len(value_parameters(agent)) == len(value_parameters(other))) or not value
    if value:
        assert torch.equal(value_parameters(agent), value_parameters(other))
        for name, buffer in agent.network.named_buffers():
            assert torch.equal(buffer, dict(other.network.named_buffers())[name])


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({}, True),
        ({"d_reward": "unbiased"}, False),
        ({"d_absorbing": True}, False),
        ({"d_state_only": True}, False),
        (
            {"d_ablation": "shuffled"},
            False,
        ),  # otherwise, the ablation would see what the expert's discriminator learned
        ({"d_spectral_norm": True}, False),
    ],
    ids=str,
)
def test_discriminator_is_copied_if_its_reward_is_the_same(options, fits):
    other, agent = make("gail", trained=True), make("gail", seed=5, **options)
    own, theirs = agent.d_optimizer.params.hash(), other.d_optimizer.params.hash()
    parts = agent.init_from(other)
    # without its discriminator, values and their scale are those of another reward
    assert [parts[name] for name in ("discriminator", "value network", "reward normalizer")] == [fits] * 3
    assert agent.d_optimizer.params.hash() == (theirs if fits else own)


def test_cloning_continues_on_observations_normalized_like_the_policys():
    source, agent = make("ppo", trained=True), make("bc", seed=5)
    summary = init_agent(agent, loaded(source), Comm())
    steps = agent._demos.obs[agent._train_rows]
    np.testing.assert_array_equal(agent.train_obs.numpy(), source.obs_normalizer(steps))
    assert summary.startswith(
        "initialized from data/checkpoints/x/last.pt (ppo on A-v0, iteration 3): policy (standard"
    )
    assert summary.endswith("), observation normalizer")


def test_normalizer_of_a_clone_follows_the_demonstrations_unless_frozen():
    source = make("ppo", trained=True)
    agent = make("bc", seed=5, init_from="data/checkpoints/x", init_freeze_normalizer=False)
    init_agent(agent, loaded(source), Comm())
    steps, moments, before = (
        agent._demos.obs[agent._train_rows],
        agent.obs_normalizer.moments,
        source.obs_normalizer.moments,
    )
    assert moments.count == before.count + len(steps)
    mean = (before.count * before.mean + steps.sum(0, dtype=np.float64)) / moments.count
    np.testing.assert_allclose(moments.mean, mean)
    np.testing.assert_array_equal(agent.train_obs.numpy(), agent.obs_normalizer(steps))


def loaded(agent):
    settings = SimpleNamespace(train=SimpleNamespace(algo="ppo"))
    path = Path("data/checkpoints/x/last.pt")
    return LoadedAgent(agent, path, settings, "A-v0", {}, BOX, SIZE, 3, 0.0, 0.0)


def test_workers_start_equal_even_if_they_read_different_checkpoints():
    """A running run may replace last.pt while workers read it."""

    def work(comm):
        agent = make("ppo", seed=5, comm=comm)
        source = make("ppo", seed=comm.rank, trained=True)
        init_agent(agent, loaded(source), comm)
        return agent.parameter_hash(), agent.obs_normalizer.moments.mean.tolist(), agent.reward_scaler.std

    one, two = on_workers(2, work)
    assert one == two
