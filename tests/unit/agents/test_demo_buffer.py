"""Demonstrations as a replay buffer, and their share of each batch."""

import dataclasses

import numpy as np
import pytest

from milozero.agents.base import AgentContext
from milozero.agents.demo_buffer import make_demo_buffer, shuffle_features
from milozero.agents.learning.optimizer import unpack
from milozero.agents.registry import agent_class, config_class
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.helpers.comm import Comm
from tests.support import steps

GAMMA = 0.5
SMALL = {
    "p_perception_stack": "mlp_8",
    "q_perception_stack": "mlp_8",
    "batch_size": 8,
    "train_freq": 64,
    "updates_per_step": 0.125,
}


def episode(number, length, terminated):
    """Return an episode whose observations and rewards tell their episode and step."""
    obs = 100 * number + np.arange(length + 1.0)[:, None]
    actions = np.full((length, 2), number / 10)
    return Episode(obs, actions, np.arange(length) + 1.0, terminated, not terminated)


DEMOS = [episode(1, 5, True), episode(2, 1, False), episode(3, 7, False)]


def draw(every=1, n_step=1, size=2000):
    buffer = make_demo_buffer(DEMOS, every, np.random.default_rng(0))
    return buffer.sample(size, np.random.default_rng(1), GAMMA, n_step)


def test_single_steps_are_those_of_the_episodes():
    drawn = draw()
    seen = {(float(o[0]), float(r), float(n[0]), float(d)) for o, _, r, n, d in zip(*drawn, strict=True)}
    first = {(100 + k, k + 1, 101 + k, GAMMA if k < 4 else 0.0) for k in range(5)}
    third = {(300 + k, k + 1, 301 + k, GAMMA) for k in range(7)}  # stopped by a time limit
    assert seen == first | {(200, 1, 201, GAMMA)} | third
    np.testing.assert_array_equal(drawn.actions, np.repeat(drawn.obs // 100 / 10, 2, axis=1).astype(np.float32))


def test_steps_between_those_that_are_used_are_part_of_returns_only():
    drawn = draw(every=3, n_step=2)
    starts = sorted({float(obs[0]) for obs in drawn.obs})
    for number, length in ((1, 5), (2, 1), (3, 7)):
        own = [start - 100 * number for start in starts if start // 100 == number]
        assert own == list(range(int(own[0]), length, 3))
        assert own[0] < min(3, length)
    chosen = drawn.obs[:, 0] % 100 < 4  # before the last two steps of the third episode
    chosen &= drawn.obs[:, 0] > 300
    expected = (drawn.obs[:, 0] - 300 + 1) + GAMMA * (drawn.obs[:, 0] - 300 + 2)
    np.testing.assert_array_equal(drawn.rewards[chosen], expected[chosen])
    np.testing.assert_array_equal(drawn.next_obs[chosen], drawn.obs[chosen] + 2)


def test_returns_of_two_steps_at_the_end_of_an_episode():
    drawn = draw(n_step=2)
    rows = {float(obs[0]): values for obs, *values in zip(*drawn, strict=True)}
    for start, reward, following, discount in (
        (103, 4 + GAMMA * 5, 105, 0.0),  # one step before a termination
        (104, 5, 105, 0.0),
        (305, 6 + GAMMA * 7, 307, GAMMA**2),  # one step before a time limit
        (306, 7, 307, GAMMA),
    ):
        _, actual, next_obs, actual_discount = rows[start]
        assert (float(actual), float(next_obs[0]), float(actual_discount)) == (reward, following, discount)


def test_actions_are_clipped_as_the_environment_clips_them():
    demo = dataclasses.replace(DEMOS[0], actions=np.full((5, 2), 3.0))
    buffer = make_demo_buffer([demo], 1, np.random.default_rng(0))
    assert (buffer.sample(50, np.random.default_rng(1), GAMMA).actions == 1.0).all()


def test_shuffling_keeps_the_distribution_of_each_feature_only():
    demos = [steps.expert(20), steps.expert(30)]
    shuffled = shuffle_features(demos, np.random.default_rng(0))
    assert [len(demo) for demo in shuffled] == [20, 30]
    for name in ("obs", "actions"):
        before, after = (np.concatenate([getattr(demo, name) for demo in each]) for each in (demos, shuffled))
        np.testing.assert_array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
        rows = {tuple(row) for row in before}
        assert sum(tuple(row) in rows for row in after) < 5


def make(algo, demos, **config):
    config = config_class(algo)(**SMALL | {"learning_starts": 0} | config)
    context = AgentContext(Comm(), num_envs=steps.N, demos=demos, imitation=ImitationConfig())
    return agent_class(algo)(config, steps.SIZE, steps.BOX, context)


def batches(agent, count=3):
    """Return the batches of `count` updates, by field (count, B, ...)."""
    packed = agent._sample(count)
    fields = unpack(packed.matrix, packed.shapes)
    return {name: field.numpy().reshape(count, agent.config.batch_size, -1) for name, field in fields.items()}


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_share_of_each_batch_is_the_experts_with_its_rewards(algo):
    agent = make(algo, [steps.expert()], expert_mix=0.25, normalize_observations=False)
    agent.update(steps.rollout(), 0.0)
    fields = batches(agent)
    assert (fields["rewards"][:, :6] == 1e6).all()  # the environment's
    assert (fields["rewards"][:, 6:] == 1.0).all()  # the demonstration's
    known = {row.tobytes() for row in steps.expert().obs.astype(np.float32)}
    assert all(row.tobytes() in known for row in fields["obs"][:, 6:].reshape(-1, steps.SIZE))


def test_nothing_of_the_demonstrations_is_used_without_a_share():
    agent = make("td3", [steps.expert()])
    assert not hasattr(agent, "demo_buffer")
    agent.update(steps.rollout(), 0.0)
    assert (batches(agent)["rewards"] == 1e6).all()


@pytest.mark.parametrize("algo", ["sqil", "iq"])
def test_rewards_of_sqil_and_iq_mark_the_experts_steps(algo):
    agent = make(algo, [steps.expert()])
    agent.update(steps.rollout(), 0.0)
    fields = batches(agent)
    assert (fields["rewards"][:, :4] == 0.0).all()
    assert (fields["rewards"][:, 4:] == 1.0).all()


@pytest.mark.parametrize("algo", ["sqil", "iq"])
@pytest.mark.parametrize("ablation", ["off", "shuffled", "none"])
def test_ablations_change_the_experts_steps(algo, ablation):
    demo = steps.expert(terminated=True)
    agent = make(algo, [demo], d_ablation=ablation, normalize_observations=False)
    metrics = agent.update(steps.rollout(), 0.0)
    assert np.isfinite(metrics["q_loss"])
    assert agent.optimizer.steps > 0
    drawn = agent.draw_expert(4000)
    rows = {tuple(row) for row in demo.obs.astype(np.float32)}
    known = np.mean([tuple(obs) in rows for obs in drawn.obs])
    if ablation == "off":
        assert known == 1.0
    else:
        assert known < 0.1
    values = set(demo.obs.astype(np.float32).ravel())
    assert (np.isin(drawn.obs, list(values)).mean() > 0.99) == (ablation != "none")
    if ablation == "none":
        assert abs(drawn.obs.std() - 1.0) < 0.05
        assert np.abs(drawn.actions).max() == 1.0
    assert (drawn.discounts == 0).any() == (ablation != "none")


def test_rewards_that_iq_implies_are_higher_for_the_expert_after_training():
    agent = make("iq", [steps.expert()], updates_per_step=2.0, q_lr=3e-3)
    for seed in range(3):
        metrics = agent.update(steps.rollout(seed), 0.0)
    assert metrics["iq_reward_expert"] > metrics["iq_reward_policy"] + 0.1
    assert metrics["iq_reward_expert"] < 2 * agent.config.iq_alpha / agent.config.expert_mix


def test_critics_are_copied_between_agents_with_equal_rewards_only():
    sac, other = (make("sac", [steps.expert()]) for _ in range(2))
    sac.update(steps.rollout(), 0.0)
    assert other.init_from(sac)["critics"]
    sqil = make("sqil", [steps.expert()])
    assert sqil.init_from(sac) == {
        "policy": True,
        "observation normalizer": True,
        "critics": False,
        "temperature": True,
    }
    assert make("sqil", [steps.expert()]).init_from(sqil)["critics"]
    assert not make("sqil", [steps.expert()], d_ablation="shuffled").init_from(sqil)["critics"]
    assert not make("iq", [steps.expert()]).init_from(sqil)["critics"]
    dac = {"dac_agent": "sac", "d_batch_size": 8}
    assert not make("dac", [steps.expert()], **dac).init_from(sac)["critics"]
    own = make("dac", [steps.expert()], **dac).init_from(make("dac", [steps.expert()], **dac))
    assert own["critics"]
    assert own["discriminator"]
    state_only = make("dac", [steps.expert()], d_state_only=True, **dac)
    assert not state_only.init_from(make("dac", [steps.expert()], **dac))["discriminator"]
