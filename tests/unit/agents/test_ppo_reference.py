"""PPO's update against an independent implementation: all parameters and metrics must match."""

import math

import numpy as np
import pytest
import torch

from milozero.agents.ppo_agent import gae
from milozero.agents.ppo_config import PPOConfig
from tests.support.fakes import on_workers
from tests.support.plain import assert_same_metrics, assert_same_parameters, make_rollouts
from tests.support.ppo_reference import (
    BOX,
    CLIPPING,
    DISCRETE,
    compute_advantages,
    make_agent,
    make_reference,
    train_with_reference,
)

ON_BOTH_SIDES = ("above, good", "above, bad", "below, good", "below, bad")


CASES = [
    (BOX, {}),
    (BOX, {"clip_value_loss": True}),
    (BOX, {"clip_value_loss": True, "recompute_advantages": True}),
    (BOX, {"ent_coef": 0.05, "vf_coef": 0.8}),
    (BOX, {"normalize_advantages": False}),
    (BOX, {"recompute_advantages": True}),
    (BOX, {"lr_schedule": "constant"}),
    (BOX, {"shared_value": True}),
    (BOX, {"activation": "relu"}),
    (BOX, {"activation": "elu", "layer_norm": True}),
    (BOX, {"batch_norm_all": True}),
    (BOX, {"normalize_rewards": False, "normalize_observations": False}),
    (BOX, {"batch_size": 24}),  # does not divide 128
    (BOX, {"clip_norm": 0.0}),
    (DISCRETE, {}),
    (DISCRETE, {"ent_coef": 0.05, "clip_value_loss": True}),
    (DISCRETE, {"batch_norm_all": True, "shared_value": True}),
]


def describe_case(value):
    if isinstance(value, dict):
        return ", ".join(f"{name}={setting}" for name, setting in value.items()) or "default"
    return "box" if value is BOX else "discrete"


@pytest.mark.parametrize(("space", "options"), CASES, ids=describe_case)
def test_three_updates_equal_the_references(space, options):
    counts = train_with_reference(space, **options).counts
    assert all(counts[case] > 0 for case in ON_BOTH_SIDES), counts
    assert counts["gradient not clipped"] > 0
    assert (counts["gradient clipped"] > 0) == (options.get("clip_norm") != 0.0)
    if options.get("clip_value_loss"):
        assert min(counts["value clipped"], counts["value not clipped"]) > 0


def test_rpo_equals_the_reference():
    counts = train_with_reference(BOX, rpo_alpha=0.3).counts
    assert all(counts[case] > 0 for case in ON_BOTH_SIDES)


@pytest.mark.parametrize("scaled", [True, False])
def test_terminal_value_is_discounted_and_added_after_scaling(scaled):
    train_with_reference(BOX, terminal_value=6.0, normalize_rewards=scaled)


def test_update_stops_after_the_epoch_that_exceeds_target_kl():
    config = PPOConfig(**CLIPPING | {"target_kl": 0.02, "epochs": 8})
    agent = make_agent(BOX, config)
    reference = make_reference(agent, BOX, config)
    num_epochs = []
    for rollout in make_rollouts(BOX):
        metrics, expected = agent.update(rollout, 0.0), reference.update([rollout], 0.0)
        assert_same_metrics(expected, metrics)
        num_epochs.append(metrics["epochs"])
    assert_same_parameters(reference.network, agent.network)
    assert all(1 <= epochs < 8 for epochs in num_epochs)
    assert max(num_epochs) > 1  # not always the first epoch


@pytest.mark.parametrize(
    ("space", "options"),
    [(BOX, {"batch_norm_all": True, "clip_value_loss": True}), (DISCRETE, {})],
    ids=describe_case,
)
def test_two_workers_equal_one_reference_with_the_data_of_both(space, options):
    """One worker has many short episodes, the other few: their shares of padding steps differ."""
    config = PPOConfig(**CLIPPING | {"batch_size": 16} | options)
    data = [make_rollouts(space, num_envs=2, seed=1, ends=0.4), make_rollouts(space, num_envs=2, seed=2, ends=0.02)]
    assert data[0][0].mask.mean() < data[1][0].mask.mean() - 0.1
    reference = make_reference(make_agent(space, config), space, config, workers=2)
    expected = [reference.update(pair, k / 4) for k, pair in enumerate(zip(*data, strict=True))]

    def work(comm):
        agent = make_agent(space, config, comm, num_envs=2)
        return agent, [agent.update(rollout, k / 4) for k, rollout in enumerate(data[comm.rank])]

    for agent, metrics in on_workers(2, work):
        assert_same_parameters(reference.network, agent.network)
        for one, other in zip(expected, metrics, strict=True):
            assert_same_metrics(one, other)
        moments = agent.obs_normalizer.moments
        np.testing.assert_allclose(moments.mean, reference.normalizer.mean, atol=1e-8)
        np.testing.assert_allclose(moments.std, reference.normalizer.std, atol=1e-8)
        assert agent.reward_scaler.std == pytest.approx(reference.reward_scaler.divisor, rel=1e-6)


def test_advantage_is_the_discounted_sum_of_td_errors_of_its_episode():
    rng = np.random.default_rng(0)
    (rollout,) = make_rollouts(BOX, count=1, ends=0.2)
    values = rng.normal(size=(33, 4))
    ends = (rollout.terminated, rollout.terminated | rollout.truncated)
    advantages = gae(rollout.rewards, values[:-1], values[1:], *ends, 0.97, 0.6)
    expected = compute_advantages(rollout, rollout.rewards, values, 0.97, 0.6)
    np.testing.assert_allclose(advantages[rollout.mask], expected[rollout.mask], rtol=1e-6, atol=1e-6)


def test_initial_weights_are_orthogonal_with_the_right_gains_and_biases_are_0():
    config = PPOConfig(p_perception_stack="mlp_8", v_perception_stack="mlp_8", log_std_init=-0.7)
    gains = {"policy.0": math.sqrt(2), "policy.2": math.sqrt(2), "value.0": math.sqrt(2), "value.2": math.sqrt(2)}
    gains |= {"head.output": 0.01, "value_head": 1.0}
    network = make_agent(BOX, config).network
    for name, gain in gains.items():
        layer = network.get_submodule(name)
        singular_values = torch.linalg.svdvals(layer.weight)
        torch.testing.assert_close(singular_values, torch.full_like(singular_values, gain), rtol=1e-4, atol=0)
        assert not layer.bias.any()
    assert (network.head.log_std == -0.7).all()
    assert not torch.allclose(network.policy[0].weight, network.value[0].weight)
