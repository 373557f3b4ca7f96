import dataclasses
import itertools
from pathlib import Path

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


def agent_for(space=BOX, config=SMALL, size=3, **context):
    context = {"num_envs": 4, "seed": 1} | context
    return PPOAgent(config, size, space, AgentContext(context.pop("comm", Comm()), **context))


def random_rollout(agent, space=BOX, steps=16, num_envs=4, size=3, seed=0):
    """A rollout whose actions come from the agent, with a few episode ends and dead rows."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(steps + 1, num_envs, size)).astype(np.float32)
    noise = np.stack([agent.noise(rng, steps) for _ in range(num_envs)], axis=1)
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
def test_ratio_is_one_at_the_first_minibatch(space, options):
    config = dataclasses.replace(SMALL, epochs=1, batch_size=64, **options)
    agent = agent_for(space, config)
    for seed in range(3):  # normalizers have learned by the second rollout
        metrics = agent.update(random_rollout(agent, space, seed=seed), 0.0)
        assert abs(metrics["approx_kl"]) < 1e-6
        assert metrics["clip_fraction"] == 0


def test_update_returns_the_metrics_that_the_agent_declares():
    agent = agent_for()
    assert set(agent.update(random_rollout(agent), 0.0)) == set(PPOAgent.Config.METRICS)


@pytest.mark.parametrize("recompute", [False, True])
def test_dead_rows_change_nothing(recompute):
    config = dataclasses.replace(SMALL, recompute_advantages=recompute, batch_size=64, normalize_rewards=False)
    first, second = agent_for(config=config), agent_for(config=config)
    rollout = random_rollout(first)
    other = dataclasses.replace(rollout, actions=rollout.actions.copy(), rewards=rollout.rewards.copy())
    dead = ~rollout.mask
    other.actions[dead] = 7.0  # ignored by the environment, so it must be ignored here
    other.rewards[dead] = 7.0
    first.update(rollout, 0.0)
    second.update(other, 0.0)
    torch.testing.assert_close(first.optimizer.params.vector, second.optimizer.params.vector, rtol=0, atol=0)


def test_rewards_of_the_environment_are_learned_from():
    config = dataclasses.replace(SMALL, normalize_rewards=False)
    first, second = agent_for(config=config), agent_for(config=config)
    rollout = random_rollout(first)
    first.update(rollout, 0.0)
    second.update(dataclasses.replace(rollout, rewards=-rollout.rewards), 0.0)
    assert first.parameter_hash() != second.parameter_hash()


def test_normalizer_learns_after_the_update_and_each_valid_row_once():
    agent = agent_for(config=dataclasses.replace(SMALL, epochs=5))
    rollout = random_rollout(agent)
    agent.update(rollout, 0.0)
    assert agent.observations.moments.count == rollout.mask.sum()
    np.testing.assert_allclose(agent.observations.moments.mean, rollout.obs[:-1][rollout.mask].mean(0), atol=1e-6)


def test_acting_changes_nothing_in_the_agent():
    agent = agent_for(config=dataclasses.replace(SMALL, batch_norm_all=True))
    agent.update(random_rollout(agent), 0.0)
    before = repr(agent.state_dict())
    for _ in range(3):
        agent.predict(np.ones(3))
    assert repr(agent.state_dict()) == before


def test_policy_sees_the_normalized_observation_when_it_is_evaluated():
    agent = agent_for()
    agent.update(random_rollout(agent), 0.0)
    agent.observations.moments.mean[:] = 100.0
    agent.observations._freeze()
    moved = agent.predict(np.full(3, 100.0))
    agent.observations.moments.mean[:] = 0.0
    agent.observations._freeze()
    np.testing.assert_allclose(agent.predict(np.zeros(3)), moved, atol=1e-6)


@pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["continuous", "discrete"])
def test_agent_from_a_checkpoint_goes_on_as_the_one_that_was_saved(space):
    config = dataclasses.replace(SMALL, batch_norm_all=True, rpo_alpha=0.1 if space is BOX else 0.0)
    saved, loaded = agent_for(space, config), agent_for(space, config, seed=9)
    saved.update(random_rollout(saved, space), 0.0)
    loaded.load_state_dict(saved.state_dict())
    loaded.load_rank_state_dict(saved.rank_state_dict())
    rollout = random_rollout(saved, space, seed=2)
    assert saved.update(rollout, 0.5) == loaded.update(rollout, 0.5)
    assert saved.parameter_hash() == loaded.parameter_hash()


def test_minibatches_are_shuffled_anew_every_epoch_and_cover_all_rows():
    from milozero.agents.learning.batches import PackedBatch

    rng, packed = np.random.default_rng(0), PackedBatch({"row": torch.arange(12)})
    epochs = [packed.minibatches(4, rng).flatten() for _ in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(12)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_packed_fields_come_back_as_they_were():
    from milozero.agents.learning.batches import PackedBatch, unpack

    batch = {"obs": torch.randn(6, 3), "actions": torch.arange(6), "weights": torch.rand(6)}
    packed = PackedBatch(batch)
    back = unpack(packed.matrix, packed.shapes)
    assert back.keys() == batch.keys()
    for name, field in batch.items():
        torch.testing.assert_close(back[name], field.float(), rtol=0, atol=0)


def test_stored_action_is_not_clipped():
    agent = agent_for(config=dataclasses.replace(SMALL, log_std=2.0), size=1, space=spaces.Box(-1, 1, (1,)))
    rollout = next(rollout_generator(CountingEnv([50]), agent, 40, seed=0))
    assert np.abs(rollout.actions).max() > 1.0


def test_gaussian_starts_with_small_orthogonal_mean_and_state_independent_deviation():
    agent = agent_for(config=dataclasses.replace(SMALL, log_std=-0.5))
    head = agent.network.head
    assert (head.log_std == -0.5).all()
    weight = head.output.weight
    torch.testing.assert_close(weight @ weight.T, 1e-4 * torch.eye(2), atol=1e-7, rtol=0)


def test_non_finite_loss_stops_with_its_name_and_the_batch_it_came_from():
    agent = agent_for()
    before = agent.optimizer.params.vector.clone()
    rollout = random_rollout(agent)
    rollout.actions[0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="policy_loss is nan, with the batch of worker 0") as caught:
        agent.update(rollout, 0.0)
    evidence = caught.value.evidence
    assert torch.isnan(evidence["batch.actions"]).sum() == 1
    assert torch.equal(evidence["parameters"], before)


def test_non_finite_parameter_stops_with_its_name():
    agent = agent_for(config=dataclasses.replace(SMALL, epochs=1, batch_size=64))
    agent.optimizer.base_rate[-1] = float("inf")  # the only step's loss and gradient are finite still
    with pytest.raises(NonFiniteError, match=r"parameter value_head\.bias is not finite"):
        agent.update(random_rollout(agent), 0.0)


def test_of_two_workers_the_one_whose_batch_is_not_finite_is_named():
    def work(comm):
        agent = agent_for(comm=comm)
        rollout = random_rollout(agent, seed=comm.rank)
        if comm.rank == 1:
            rollout.actions[3, 0, 0] = np.inf
        with pytest.raises(NonFiniteError, match="worker 1") as caught:
            agent.update(rollout, 0.0)
        return caught.value.rank

    assert on_workers(2, work) == [1, 1]


def test_learning_rate_falls_linearly_to_nothing():
    agent = agent_for()
    before = agent.parameter_hash()
    assert agent.update(random_rollout(agent), 0.25)["learning_rate"] == pytest.approx(0.75 * SMALL.p_lr)
    after = agent.parameter_hash()
    agent.update(random_rollout(agent, seed=3), 1.0)
    assert before != after == agent.parameter_hash()


def test_learning_rates_of_policy_and_value_are_separate():
    agent = agent_for(config=dataclasses.replace(SMALL, v_lr=0.0))
    before = {name: p.clone() for name, p in agent.network.named_parameters()}
    agent.update(random_rollout(agent), 0.0)
    moved = {name for name, p in agent.network.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in moved} == {"policy", "head"}


def test_update_ends_early_where_the_policy_has_moved_far_enough():
    config = dataclasses.replace(SMALL, epochs=10, target_kl=1e-4, p_lr=0.05, clip_norm=0.0)
    agent = agent_for(config=config)
    assert agent.update(random_rollout(agent), 0.0)["epochs"] < 10


def test_rpo_moves_the_means_of_the_update_and_those_alone():
    """Rahman & Xue 2022: a mean that is moved by z gives the probability that the mean gives to the action less z."""
    agent = agent_for(config=dataclasses.replace(SMALL, rpo_alpha=0.5, epochs=3))
    seen = []
    agent.optimizer.run_epoch = lambda packed, size, rng: seen.append(packed.matrix.clone())
    agent.optimizer.pop_metrics = lambda: dict.fromkeys(("policy_loss", "approx_kl"), 0.0)
    rollout = random_rollout(agent)
    plain = agent_for(config=SMALL)
    plain.optimizer.run_epoch, plain.optimizer.pop_metrics = agent.optimizer.run_epoch, agent.optimizer.pop_metrics
    agent.update(rollout, 0.0)
    plain.update(rollout, 0.0)
    *moved, unmoved, _ = (each.numpy() for each in seen)
    shifts = [each - unmoved for each in moved]
    touched = [np.flatnonzero(np.abs(shift).max(0) > 1e-6) for shift in shifts]
    assert all(len(columns) == 2 for columns in touched)  # the two actions; not old_log_probs
    for shift in shifts:
        assert 0.4 < np.abs(shift).max() <= 0.5 + 1e-6
    assert not np.allclose(shifts[0], shifts[1])  # drawn anew


def test_rpo_without_means_is_refused():
    with pytest.raises(UserError, match="no mean to move"):
        agent_for(DISCRETE, dataclasses.replace(SMALL, rpo_alpha=0.5))


def test_value_loss_is_clipped_on_request():
    rollouts, results = [], []
    for clipped in (False, True):
        agent = agent_for(
            config=dataclasses.replace(SMALL, clip_value_loss=clipped, v_lr=0.05, clip_range=0.01, epochs=6)
        )
        rollouts.append(random_rollout(agent))
        agent.update(rollouts[-1], 0.0)
        results.append(agent.parameter_hash())
    assert results[0] != results[1]


def test_advantages_are_standardized_over_all_workers():
    values, mask = np.arange(12.0).reshape(6, 2), np.ones((6, 2), bool)
    mask[5, 1] = False
    parts = on_workers(2, lambda comm: standardize(values[:, [comm.rank]], mask[:, [comm.rank]], comm))
    kept = np.concatenate(parts, axis=1)[mask]
    assert abs(kept.mean()) < 1e-9
    assert kept.std() == pytest.approx(1.0)


def test_batch_norm_over_two_workers_equals_one_that_sees_all():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 3 + 5

    def learn(comm):
        layer = BatchNorm(3)
        layer.update_batch_norm(x[:15] if comm.rank == 0 else x[15:], comm)
        return layer(x).detach()

    first, second = on_workers(2, learn)
    assert torch.equal(first, second)
    torch.testing.assert_close(first.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(first.std(0), torch.ones(3), atol=0.05, rtol=0)


def test_gradients_are_averaged_before_they_are_clipped():
    """Two workers with opposite gradients of norm 10 must not move; clipping each first would hide the size."""
    from milozero.agents.learning.optimizer import Optimizer, PackedBatch

    def norm(comm):
        network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(network.weight)
        slope = torch.tensor([30.0, -10.0][comm.rank])
        loss = lambda params, batch: (params["weight"].sum() * slope, {"x": batch["x"].sum()})  # noqa: E731
        optimizer = Optimizer(network, loss, lambda _: 0.1, clip_norm=1.0, comm=comm, compile=False)
        optimizer.run_epoch(PackedBatch({"x": torch.ones(2)}), 2, np.random.default_rng(0))
        return optimizer.pop_metrics()["grad_norm"]

    assert on_workers(2, norm) == [10.0, 10.0]


def test_steps_are_those_of_torchs_adam_after_its_gradient_clipping():
    from milozero.agents.learning.optimizer import BETA1, BETA2, EPSILON, Optimizer, PackedBatch

    mine, torchs = (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)) for _ in "ab")
    torchs.load_state_dict(mine.state_dict())

    def loss(params, batch):
        error = (torch.func.functional_call(mine, params, (batch["x"],)) ** 2).mean() * 5
        return error, {"error": error}

    optimizer = Optimizer(mine, loss, lambda _: 0.05, clip_norm=1.0, comm=Comm(), compile=False)
    adam = torch.optim.Adam(torchs.parameters(), lr=0.05, betas=(BETA1, BETA2), eps=EPSILON)
    for seed in range(3):
        x = torch.randn(32, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.run_epoch(PackedBatch({"x": x}), 8, np.random.default_rng(seed))
        for rows in np.random.default_rng(seed).permutation(32).reshape(4, 8):
            adam.zero_grad()
            ((torchs(x[rows]) ** 2).mean() * 5).backward()
            torch.nn.utils.clip_grad_norm_(torchs.parameters(), 1.0)
            adam.step()
    for name, parameter in torchs.named_parameters():
        torch.testing.assert_close(mine.get_parameter(name), parameter.detach(), atol=1e-5, rtol=0)


def test_rollouts_of_a_known_task_are_learned():
    """Reward for acting above 0.3: the mean action must get there."""
    agent = agent_for(
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
def test_actor_is_the_policy_that_is_learned(options, activation):
    """What acts, in numpy, and what is updated, in torch, are the same function, also after learning."""
    agent = agent_for(config=dataclasses.replace(SMALL, activation=activation, p_lr=0.05, **options))
    for seed in range(2):
        agent.update(random_rollout(agent, seed=seed), 0.0)
        obs = np.random.default_rng(seed).normal(size=(6, 3)).astype(np.float32)
        features = agent.network.policy(torch.from_numpy(obs))
        expected = agent.network.head.output(features).detach().numpy()
        np.testing.assert_allclose(agent.actor.mode(obs), expected, atol=1e-5)


def test_compiled_code_is_kept_apart_for_each_kind_of_processor(tmp_path, monkeypatch):
    from milozero.agents.learning.compilation import cache_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = cache_folder()
    assert here.is_dir()
    assert here.is_relative_to(tmp_path)
    read_text = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path: read_text(path).replace("model name", "model name\t: next", 1)
    )
    assert cache_folder() != here


def test_folder_that_cannot_be_written_is_left_to_torch(tmp_path, monkeypatch):
    from milozero.agents.learning.compilation import cache_folder

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() is None
