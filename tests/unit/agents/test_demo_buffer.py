"""Demonstrations as a replay buffer, and their share of each batch."""

import numpy as np
import pytest

from milozero.agents.base import AgentContext
from milozero.agents.demo_buffer import ablate, make_demo_buffer
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


def test_shuffling_keeps_the_distribution_of_each_feature_only():
    demos = [steps.expert(20), steps.expert(30)]
    shuffled = ablate(demos, "shuffled", np.random.default_rng(0))
    assert [len(demo) for demo in shuffled] == [20, 30]
    for name in ("obs", "actions"):
        before, after = (np.concatenate([getattr(demo, name) for demo in each]) for each in (demos, shuffled))
        np.testing.assert_array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
        rows = {tuple(row) for row in before}
        assert sum(tuple(row) in rows for row in after) < 5


def test_noise_replaces_everything():
    (noise,) = ablate([steps.expert(4000)], "none", np.random.default_rng(0))
    assert np.abs(noise.obs.mean(0)).max() < 0.05
    assert np.abs(noise.actions.std(0) - 1.0).max() < 0.05
    assert ablate(DEMOS, "off", np.random.default_rng(0)) == DEMOS


def make(algo, demos, **config):
    config = config_class(algo)(**SMALL | {"learning_starts": 0} | config)
    context = AgentContext(Comm(), num_envs=steps.N, demos=demos, imitation=ImitationConfig())
    return agent_class(algo)(config, steps.SIZE, steps.BOX, context)


def batches(agent, count=3):
    """Return the batches of `count` updates, by field (count, B, ...)."""
    packed = agent._sample(count)
    from milozero.agents.learning.optimizer import unpack

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


@pytest.mark.parametrize("algo", ["sqil", "iq", "dac"])
@pytest.mark.parametrize("ablation", ["off", "shuffled", "none"])
def test_ablated_agents_learn(algo, ablation):
    agent = make(algo, [steps.expert()], d_ablation=ablation)
    assert all(np.isfinite(value) for name, value in agent.update(steps.rollout(), 0.0).items() if name == "q_loss")
    assert agent.optimizer.steps > 0
