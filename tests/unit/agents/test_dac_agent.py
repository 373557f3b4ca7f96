"""DAC: rewards when steps are sampled, absorbing states, and the discriminator's updates."""

import copy

import numpy as np
import pytest

from milozero.agents.dac_agent import DACWithSAC, DACWithTD3, make_dac_agent
from milozero.agents.dac_config import DACConfig
from milozero.agents.replay_buffer import Steps
from milozero.helpers.comm import Comm
from tests.support.fakes import on_workers
from tests.support.steps import BOX, SIZE, N, T, expert, imitation_context, rollout

SMALL = {
    "p_perception_stack": "mlp_8",
    "q_perception_stack": "mlp_8",
    "batch_size": 8,
    "d_batch_size": 16,
    "train_freq": T * N,
    "learning_starts": 0,
    "updates_per_step": 0.125,
    "gamma": 0.9,
}


def make(iteration=0, comm=None, demos=None, **config):
    context = imitation_context(comm, demos, iteration)
    return make_dac_agent(DACConfig(**SMALL | config), SIZE, BOX, context)


def add(agent, *rollouts):
    for each in rollouts:
        agent.replay_buffer.add(Steps(*(getattr(each, name) for name in Steps._fields)))


def test_agent_is_of_the_chosen_algorithm():
    assert isinstance(make(), DACWithTD3)
    agent = make(dac_agent="sac")
    assert isinstance(agent, DACWithSAC)
    assert agent.config.policy_kind == "a squashed Gaussian policy"


@pytest.mark.parametrize("form", ["positive", "negative", "unbiased"])
def test_rewards_are_those_of_the_present_discriminator(form):
    agent = make(d_reward=form, d_absorbing=False)
    add(agent, rollout(terminated=[(3, 1)]))
    agent.obs_normalizer.update(rollout().obs.reshape(-1, SIZE), Comm())
    for scale in (1.0, -2.0):
        agent.discriminator.head.weight.mul_(scale)  # as if it had been trained in the meantime
        drawn = agent.draw(200)
        inputs = np.concatenate([drawn.obs, np.clip(drawn.actions, -1, 1)], axis=1)
        logits = agent.discriminator(agent.to_tensor(inputs)).numpy().astype(np.float64)
        d = 1 / (1 + np.exp(-logits))
        expected = {"positive": -np.log(1 - d), "negative": np.log(d), "unbiased": np.log(d) - np.log(1 - d)}[form]
        np.testing.assert_allclose(drawn.rewards, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"d_state_only": True, "d_next_obs": True}, {"d_next_obs": True}])
def test_inputs_with_the_next_observation(options):
    agent = make(**options)
    obs, actions, following = np.ones((2, SIZE)), np.full((2, 2), 3.0), np.full((2, SIZE), 2.0)
    features = agent.features(obs, actions, following, np.zeros(2, bool))
    action = [] if options.get("d_state_only") else [1.0, 1.0]  # clipped
    np.testing.assert_array_equal(features, [[1.0] * SIZE + action + [2.0] * SIZE + [0.0]] * 2)
    assert features.shape[1] == len(agent.absorbing_features()) == agent.penalty_dims


def test_terminal_state_is_worth_its_absorbing_steps():
    """A chain of absorbing steps, summed by hand, and no bonus where a time limit stopped the episode."""
    agent = make()
    steps = rollout(terminated=[(t, n) for t in range(0, T, 2) for n in range(N)])
    steps.truncated[2::4], steps.terminated[2::4] = steps.terminated[2::4], False
    add(agent, steps)
    drawn = agent.draw(400)
    without = make(d_absorbing=True)
    without.discriminator.load_state_dict(agent.discriminator.state_dict())
    without.terminal_value = lambda: 0.0
    add(without, steps)
    bonus = drawn.rewards - without.draw(400).rewards
    absorbing = float(agent.logits_to_reward(agent.logits(agent.absorbing_features()[None]))[0])
    chain = sum(0.9**k * absorbing for k in range(1, 500))
    assert 50 < (drawn.discounts == 0).sum() < 350
    np.testing.assert_allclose(bonus, np.where(drawn.discounts == 0, chain, 0.0), atol=1e-4)


def test_discriminator_sees_one_absorbing_step_per_terminated_episode():
    agent = make()
    add(agent, rollout(terminated=[(t, n) for t in (2, 6, 10) for n in range(N)]))
    features = agent.sample_policy(20_000)
    ends, steps = 12, T * N - 12  # the padding steps are not sampled
    assert (features == agent.absorbing_features()).all(1).mean() == pytest.approx(ends / (steps + ends), abs=0.01)
    shares = [(make(demos=demos).sample_expert(20_000)[:, -1] == 1).mean() for demos in (None, [expert()])]
    assert shares == [pytest.approx(1 / 51, abs=0.005), 0.0]


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, 6), (1.0, 24), (2.0, 48)])
def test_number_of_discriminator_updates(ratio, expected):
    agent = make(d_update_ratio=ratio)
    for k in range(3):
        agent.update(rollout(k), 0.0)
    assert agent.optimizer.steps == 24
    assert agent.d_optimizer.steps == expected


def test_discriminator_learns_to_distinguish():
    agent = make(d_lr=0.01, d_penalty_coef=0.1, d_update_ratio=10.0)
    for k in range(5):
        metrics = agent.update(rollout(k), 0.0)
    assert metrics["d_prob_expert"] > 0.6
    assert metrics["d_prob_policy"] < 0.4
    assert metrics["d_reward"] < 0  # all steps so far are the policy's


@pytest.mark.parametrize(("algo", "missing"), [("td3", {"entropy", "temperature"}), ("sac", set())])
def test_metrics_are_those_that_are_documented(algo, missing):
    metrics = make(dac_agent=algo).update(rollout(), 0.0)
    assert set(metrics) == set(DACConfig.METRICS)
    assert {name for name, value in metrics.items() if np.isnan(value)} == missing


def test_environments_rewards_are_ignored():
    hashes = set()
    for rewards in (0.0, 1e6):
        agent, steps = make(), rollout()
        steps.rewards[:] = rewards
        agent.update(steps, 0.0)
        hashes.add(agent.parameter_hash())
    assert len(hashes) == 1


@pytest.mark.parametrize("options", [{}, {"dac_agent": "sac", "expert_mix": 0.25, "d_penalty": "dragan"}])
def test_resumed_agent_continues_with_the_same_bits(options):
    original = make(d_update_ratio=0.3, **options)
    for k in range(3):
        original.update(rollout(k, [(3, 1)]), 0.0)
    resumed = make(3, d_update_ratio=0.3, **options)
    resumed.load_state_dict(original.state_dict())
    resumed.load_rank_state_dict(original.rank_state_dict())
    resumed.replay_buffer = copy.deepcopy(original.replay_buffer)
    for k in (3, 4):
        expected, actual = (agent.update(rollout(k, [(5, 0)]), 0.5) for agent in (original, resumed))
        for times in (expected, actual):
            del times["updates_per_second"]
        np.testing.assert_equal(expected, actual)
    assert original.parameter_hash() == resumed.parameter_hash()


def test_workers_agree():
    def work(comm):
        agent = make(comm=comm)
        for k in range(2):
            metrics = agent.update(rollout(10 * comm.rank + k), 0.0)
        return agent.parameter_hash(), metrics["d_reward"]

    first, second = on_workers(2, work)
    assert first == second
