"""Behavioral cloning of actions that are a known function of the observations."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero.agents.base import AgentContext
from milozero.agents.bc_agent import BCAgent
from milozero.agents.bc_config import BCConfig
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.helpers.comm import Comm
from milozero.helpers.errors import UserError
from tests.support.fakes import on_workers

BOX = spaces.Box(-1.0, 1.0, (2,))


def expert(length=200, episodes=2, discrete=False, noise=0.0):
    """Return episodes of a linear policy, or of one that thresholds the first observation."""
    rng = np.random.default_rng(0)
    result = []
    for _ in range(episodes):
        obs = rng.normal(3.0, 2.0, size=(length + 1, 3))
        actions = np.stack([0.2 * obs[:-1, 0], -0.1 * obs[:-1, 1]], axis=1)
        actions += noise * rng.normal(size=actions.shape)
        choice = (obs[:-1, 0] > 3.0).astype(np.int64)
        result.append(Episode(obs, choice if discrete else actions, np.ones(length), False, True))
    return result


def make(comm=None, space=BOX, demos=None, iteration=0, **config):
    demos = expert() if demos is None else demos
    imitation = ImitationConfig(demo_subsampling=config.pop("demo_subsampling", 1))
    context = AgentContext(comm or Comm(), seed=1, iteration=iteration, demos=demos, imitation=imitation)
    values = {"p_perception_stack": "mlp_32", "p_lr": 1e-2, "batch_size": 40} | config
    return BCAgent(BCConfig(**values), 3, space, context)


def learn(agent, iterations):
    return [agent.update(None, k / iterations) for k in range(iterations)]


@pytest.mark.parametrize("loss", ["nll", "mse"])
def test_policy_converges_to_the_expert(loss):
    agent = make(bc_loss=loss)
    metrics = learn(agent, 15)
    assert set(metrics[0]) == set(BCAgent.Config.METRICS)
    assert metrics[-1]["validation_loss"] < metrics[0]["validation_loss"]
    obs = np.random.default_rng(9).normal(3.0, 2.0, size=(50, 3))
    acted = np.stack([agent.predict(row) for row in obs])
    np.testing.assert_allclose(acted, np.stack([0.2 * obs[:, 0], -0.1 * obs[:, 1]], axis=1), atol=0.15)


def test_discrete_actions_are_learned_and_mse_is_refused():
    space = spaces.Discrete(2)
    agent = make(space=space, demos=expert(discrete=True))
    learn(agent, 8)
    obs = np.random.default_rng(9).normal(3.0, 2.0, size=(100, 3))
    correct = [agent.predict(row) == (row[0] > 3.0) for row in obs]
    assert np.mean(correct) > 0.9
    with pytest.raises(UserError, match="continuous"):
        make(space=space, demos=expert(discrete=True), bc_loss="mse")


def test_loss_is_the_mean_nll_or_mse():
    obs, actions = torch.zeros(4, 3), torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [1.0, 1.0]])
    for kind, expected in (("nll", 0.5 * (1 + 4 + 0 + 2) / 4 + math.log(2 * math.pi)), ("mse", (1 + 4 + 0 + 2) / 8)):
        agent = make(bc_loss=kind)
        params = {n: torch.zeros_like(p) for n, p in agent.network.named_parameters()}  # mean 0, standard deviation 1
        value, metrics = agent.loss(params, {"obs": obs, "actions": actions})
        assert float(value) == pytest.approx(expected)
        assert metrics["policy_loss"] is value


def test_validation_episodes_are_not_trained_on():
    episodes = [expert(length=50)[0] for _ in range(4)]
    for number, episode in enumerate(episodes):
        episode.obs[:, 2] = number
    agent = make(demos=episodes, bc_validation=0.25, normalize_observations=False)
    (unseen,) = agent._validation_batch["obs"][:, 2].unique().tolist()
    assert len(agent._validation_batch["obs"]) == 50
    assert sorted(agent.train_obs[:, 2].unique().tolist()) == sorted({0, 1, 2, 3} - {int(unseen)})
    assert len(agent.train_obs) == 150


def test_early_stopping_watches_episodes_that_are_not_trained_on():
    """Episodes whose steps are all alike and whose actions are arbitrary: only other episodes reveal overfitting."""
    rng, demos = np.random.default_rng(0), []
    for _ in range(8):
        obs = np.tile(rng.normal(size=3), (41, 1)) + 0.01 * rng.normal(size=(41, 3))
        demos.append(Episode(obs, np.tile(rng.normal(size=2), (40, 1)), np.ones(40), False, True))
    agent = make(demos=demos, bc_patience=5, bc_validation=0.2)
    losses = [metrics["validation_loss"] for metrics in learn(agent, 12)]
    assert min(losses) == agent.best_loss
    assert np.argmin(losses) < 3
    assert agent.early_stop()


def test_training_stops_after_bc_patience_iterations_without_improvement():
    agent = make(demos=expert(length=30, episodes=1, noise=1.0), batch_size=10, bc_patience=3, bc_validation=0.3)
    for k in range(200):
        assert agent.early_stop() == ""
        agent.update(None, k / 400)
        if agent.early_stop():
            break
    assert "bc_patience=3" in agent.early_stop()
    assert agent.since_best == 3


@pytest.mark.parametrize(("patience", "validation"), [(0, 0.3), (3, 0.0)])
def test_early_stopping_can_be_disabled(patience, validation):
    demos = expert(length=30, episodes=1, noise=1.0)
    agent = make(demos=demos, batch_size=10, bc_patience=patience, bc_validation=validation)
    metrics = learn(agent, 30)
    assert agent.early_stop() == ""
    assert math.isnan(metrics[-1]["validation_loss"]) == (validation == 0.0)


def test_workers_split_the_demonstrations_and_stay_in_sync():
    def work(comm):
        agent = make(comm)
        metrics = learn(agent, 3)
        return agent.train_obs, agent._validation_batch["obs"], agent.parameter_hash(), metrics[-1], agent.since_best

    (one, kept1, *first), (two, kept2, *second) = on_workers(2, work)
    assert first == second
    assert len(one) == len(two) == 100
    assert len(kept1) == len(kept2) == 100
    assert len(torch.unique(torch.cat([one, two, kept1, kept2]), dim=0)) == 400


def test_share_smaller_than_a_minibatch_is_one_minibatch(caplog):
    with caplog.at_level("INFO"):
        agent = make(batch_size=64, bc_validation=0.5, demo_subsampling=20)
    assert "each worker has only 10 demonstrated steps: minibatches are smaller" in caplog.text
    metrics = learn(agent, 30)
    assert agent.optimizer.steps == 30 * agent.config.epochs  # one per pass
    assert metrics[-1]["policy_loss"] < 0.5 * metrics[0]["policy_loss"]
    caplog.clear()
    exact = make(batch_size=10, bc_validation=0.5, demo_subsampling=20)
    assert not caplog.text
    learn(exact, 30)
    assert agent.parameter_hash() == exact.parameter_hash()


@pytest.mark.parametrize("validation", [0.0, 0.5])
def test_more_workers_than_demonstrated_steps_stay_in_sync(validation):
    def work(comm):
        agent = make(comm, demos=expert(length=2, episodes=1), bc_validation=validation)
        return agent.parameter_hash(), learn(agent, 2)[-1]["policy_loss"], len(agent.train_obs)

    results = on_workers(4, work)
    assert len(set(results)) == 1
    assert results[0][2] == 1


def test_resumed_agent_learns_the_same_bits():
    straight = make()
    learn(straight, 2)
    state, worker = straight.state_dict(), straight.rank_state_dict()
    resumed = make(iteration=2)
    resumed.load_state_dict(state)
    resumed.load_rank_state_dict(worker)
    assert learn(straight, 2) == learn(resumed, 2)
    assert straight.parameter_hash() == resumed.parameter_hash()


def test_new_demonstrations_are_normalized_by_the_checkpoints_normalizer():
    first = make()
    other = make(demos=expert(length=100))
    other.load_state_dict(first.state_dict())
    steps = other._demos.obs[other._train_rows]
    np.testing.assert_array_equal(other.train_obs.numpy(), first.obs_normalizer(steps))


def test_evaluation_needs_no_demonstrations():
    agent = make(demos=())
    assert agent.predict(np.zeros(3)).shape == (2,)
