"""BC and DAgger against independent implementations, and the distribution of DAgger's buffer."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from milozero.agents.base import AgentContext
from milozero.agents.bc_agent import BCAgent
from milozero.agents.bc_config import BCConfig
from milozero.agents.dagger_agent import DAggerAgent
from milozero.agents.dagger_config import DAggerConfig
from milozero.demonstrations.dataset import Episode
from milozero.helpers.comm import Comm
from milozero.helpers.seeding import Purpose, make_rng
from tests.support.fakes import on_workers
from tests.support.plain import (
    PlainNormalizer,
    PlainPolicy,
    adam,
    assert_same_metrics,
    assert_same_parameters,
    copy_parameters,
    descend,
    make_rollouts,
    minibatches,
)

BOX, DISCRETE = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3)
SPACES = pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["box", "discrete"])
SIZE, SEED = 3, 6
LEARNING = {"p_perception_stack": "mlp_8", "p_lr": 0.02, "batch_size": 24, "epochs": 3, "clip_obs": 2.0}


class Expert:
    """A fixed policy on unnormalized observations, sometimes beyond the action limits."""

    def __init__(self, space):
        self.space = space

    def predict_batch(self, obs):
        if self.space.shape:
            return np.stack([0.8 * obs[:, 0], -0.5 * obs[:, 1]], axis=1).astype(np.float32)
        return (obs[:, 0] > 0.5).astype(np.int64) + (obs[:, 1] > -2.0)

    def clipped_actions(self, obs):
        """Return the clipped actions."""
        return np.clip(self.predict_batch(obs), -1.0, 1.0) if self.space.shape else self.predict_batch(obs)


class BCBaseReference:
    """A policy trained on labels by torch's Adam."""

    def __init__(self, config, space, begin, workers=1):
        self.config = config
        self.policy = PlainPolicy(SIZE, space, (8, 8), config.activation, batch_norm=config.batch_norm_all)
        copy_parameters(self.policy, begin)
        self.adam = adam([(list(self.policy.parameters()), config.p_lr)])
        self.normalizer = PlainNormalizer(config.clip_obs, config.normalize_observations)
        self.rngs = [make_rng(SEED, Purpose.SHUFFLE, rank) for rank in range(workers)]

    def set_schedule(self, progress):
        (group,) = self.adam.param_groups
        group["lr"] = group["start"] * (1.0 - progress if self.config.lr_schedule == "linear" else 1.0)
        return group["lr"]

    def loss(self, obs, actions):
        distribution = self.policy.distribution(self.normalizer(obs))
        if self.config.bc_loss == "mse":
            return ((distribution.mean - actions) ** 2).sum() / actions.numel(), distribution
        return -distribution.log_prob(actions).sum() / len(obs), distribution

    def epoch(self, obs, actions):
        """Train on the observations and actions of all workers; return the metrics of each step."""
        metrics = []
        for chosen in minibatches(self.rngs, len(obs[0]), self.config.batch_size):
            rows = list(enumerate(chosen))
            seen = np.concatenate([obs[worker][own] for worker, own in rows])
            done = torch.tensor(np.concatenate([actions[worker][own] for worker, own in rows]))
            loss, distribution = self.loss(seen, done)
            entropy = distribution.entropy().mean()
            norm = descend(self.adam, loss, self.config.clip_norm)
            metrics.append({"policy_loss": loss.item(), "entropy": entropy.item(), "grad_norm": norm})
        return metrics


def means(metrics):
    return {name: float(np.mean([each[name] for each in metrics])) for name in metrics[0]}


def demonstrations(space, lengths=(60, 45, 70)):
    rng, episodes = np.random.default_rng(3), []
    for length in lengths:
        obs = rng.normal([0.5, -2.0, 0.0], [1.0, 4.0, 0.3], (length + 1, SIZE)).astype(np.float32)
        episodes.append(Episode(obs, Expert(space).clipped_actions(obs[:-1]), np.ones(length), False, True))
    return episodes


class BCReference(BCBaseReference):
    """Learns from the training steps of all workers."""

    def __init__(self, config, space, begin, workers=1):
        super().__init__(config, space, begin, workers)
        episodes = demonstrations(space)
        self.obs = np.concatenate([e.obs[:-1] for e in episodes])
        self.actions = np.concatenate([e.actions for e in episodes])
        rng = make_rng(SEED, Purpose.DEMONSTRATIONS)
        for _ in episodes:
            rng.integers(1)  # the first step taken from each
        held_out = rng.permutation(len(episodes))[0]  # a fifth of three episodes, at least one
        start = sum(map(len, episodes[:held_out]))
        validation_rows = list(range(start, start + len(episodes[held_out])))
        train_rows = rng.permutation([row for row in range(len(self.obs)) if row not in validation_rows])
        self.validation_rows = rng.permutation(validation_rows)
        each = len(train_rows) // workers
        self.shares = [train_rows[k * each : (k + 1) * each] for k in range(workers)]
        self.normalizer.add(self.obs[np.concatenate(self.shares)])

    def update(self, progress):
        rate = self.set_schedule(progress)
        steps = []
        for _ in range(self.config.epochs):
            steps += self.epoch(
                [self.obs[rows] for rows in self.shares], [self.actions[rows] for rows in self.shares]
            )
        self.policy.update_batch_norm(self.normalizer(self.obs[np.concatenate(self.shares)]))
        with torch.no_grad():
            validation, _ = self.loss(
                self.obs[self.validation_rows], torch.tensor(self.actions[self.validation_rows])
            )
        return means(steps) | {"validation_loss": float(validation), "learning_rate": rate}


def bc_agent(space, config, comm=None):
    return BCAgent(config, SIZE, space, AgentContext(comm or Comm(), seed=SEED, demos=demonstrations(space)))


CLONING_OPTIONS = pytest.mark.parametrize(
    "options",
    [{}, {"bc_loss": "mse"}, {"clip_norm": 0.0, "lr_schedule": "constant"}, {"batch_norm_all": True}],
    ids=str,
)


@SPACES
@CLONING_OPTIONS
def test_bc_updates_equal_the_references(space, options):
    if space is DISCRETE and "bc_loss" in options:
        options = {"normalize_observations": False}  # discrete actions have no squared error
    config = BCConfig(**LEARNING | options, bc_validation=0.2)
    agent = bc_agent(space, config)
    reference = BCReference(config, space, agent.network)
    for k in range(3):
        metrics, expected = agent.update(None, k / 4), reference.update(k / 4)
        assert set(expected) == set(metrics)
        assert_same_metrics(expected, metrics)
        assert_same_parameters(reference.policy, agent.network)


@SPACES
def test_two_bc_workers_equal_one_reference_with_both_shares(space):
    config = BCConfig(**LEARNING | {"batch_norm_all": True}, bc_validation=0.21)
    reference = BCReference(config, space, bc_agent(space, config).network, workers=2)
    expected = [reference.update(k / 4) for k in range(2)]

    def work(comm):
        agent = bc_agent(space, config, comm)
        return agent, [agent.update(None, k / 4) for k in range(2)]

    for agent, metrics in on_workers(2, work):
        assert_same_parameters(reference.policy, agent.network)
        for one, other in zip(expected, metrics, strict=True):
            assert_same_metrics(one, other)


class DAggerReference(BCBaseReference):
    """Labels all observations, and adds them to the buffers one by one by reservoir sampling."""

    def __init__(self, config, space, begin, workers=1):
        super().__init__(config, space, begin, workers)
        self.expert, self.space = Expert(space), space
        self.iteration = 0
        self.buffers = [[] for _ in range(workers)]
        self.num_queries = [0] * workers

    def update(self, rollouts, progress):
        config, rate = self.config, self.set_schedule(progress)
        all_obs = [rollout.obs[:-1][rollout.mask] for rollout in rollouts]
        metrics = {
            "learning_rate": rate,
            "expert_share": max(0.0, 1.0 - self.iteration / config.dagger_beta_iters),
            "expert_distance": self._distance(np.concatenate(all_obs)),
        }
        for worker, obs in enumerate(all_obs):
            self._add_to_buffer(worker, obs)
        metrics["buffer_size"] = float(sum(map(len, self.buffers)))
        self.normalizer.add(np.concatenate(all_obs))
        self.iteration += 1
        steps = []
        for _ in range(config.epochs):
            drawn = []
            for rng, buffer in zip(self.rngs, self.buffers, strict=True):
                rows = rng.integers(len(buffer), size=rollouts[0].mask.size)
                drawn.append(np.stack([buffer[row] for row in rows]))
            steps += self.epoch(drawn, [self.expert.clipped_actions(obs) for obs in drawn])
        self.policy.update_batch_norm(self.normalizer(np.concatenate(drawn)))
        return metrics | means(steps)

    @torch.no_grad()
    def _distance(self, obs):
        distribution = self.policy.distribution(self.normalizer(obs))
        expert_actions = self.expert.clipped_actions(obs)
        if self.space.shape:
            difference = distribution.mean.clamp(-1.0, 1.0).numpy() - expert_actions
            return float(np.sqrt((difference**2).mean()))
        return float(np.mean(distribution.probs.argmax(-1).numpy() != expert_actions))

    def _add_to_buffer(self, worker, obs):
        buffer, capacity = self.buffers[worker], self.config.dagger_buffer_size
        numbers = np.arange(self.num_queries[worker], self.num_queries[worker] + len(obs))
        drawn = self.rngs[worker].integers(numbers + 1)
        for row, row_index in zip(obs, drawn, strict=True):
            if len(buffer) < capacity:
                buffer.append(row)
            elif row_index < capacity:
                buffer[row_index] = row
        self.num_queries[worker] += len(obs)


def dagger_agent(space, config, comm=None, num_envs=4, seed=SEED):
    return DAggerAgent(
        config, SIZE, space, AgentContext(comm or Comm(), seed=seed, num_envs=num_envs, expert=Expert(space))
    )


@SPACES
@pytest.mark.parametrize("buffer_size", [10_000, 90], ids=["large buffer", "small buffer"])
@CLONING_OPTIONS
def test_dagger_updates_equal_the_references(space, buffer_size, options):
    if space is DISCRETE and "bc_loss" in options:
        options = {"normalize_observations": False}
    config = DAggerConfig(**LEARNING | options, dagger_buffer_size=buffer_size, dagger_beta_iters=2)
    agent = dagger_agent(space, config)
    reference = DAggerReference(config, space, agent.network)
    for k, rollout in enumerate(make_rollouts(space)):
        metrics, expected = agent.update(rollout, k / 4), reference.update([rollout], k / 4)
        assert set(expected) == set(metrics)
        assert_same_metrics(expected, metrics)
        assert_same_parameters(reference.policy, agent.network)
    assert len(reference.buffers[0]) == agent.buffer_len == min(buffer_size, agent.num_queries)


def test_two_dagger_workers_equal_one_reference_with_both_buffers():
    config = DAggerConfig(**LEARNING | {"batch_norm_all": True}, dagger_buffer_size=90)
    data = [make_rollouts(BOX, num_envs=2, seed=seed, ends=ends) for seed, ends in ((1, 0.4), (2, 0.02))]
    reference = DAggerReference(config, BOX, dagger_agent(BOX, config).network, workers=2)
    expected = [reference.update(pair, 0.0) for pair in zip(*data, strict=True)]

    def work(comm):
        agent = dagger_agent(BOX, config, comm, num_envs=2)
        return agent, [agent.update(rollout, 0.0) for rollout in data[comm.rank]]

    for agent, metrics in on_workers(2, work):
        assert_same_parameters(reference.policy, agent.network)
        for one, other in zip(expected, metrics, strict=True):
            assert_same_metrics(one, other)


def record_last_batch(agent, rollouts):
    """Update an agent; return the batch (M, O + A) of its last epoch."""
    matrices, run_epoch = [], agent.optimizer.run_epoch

    def record(packed, size, rng):
        matrices.append(packed.matrix.numpy().copy())
        run_epoch(packed, size, rng)

    agent.optimizer.run_epoch = record
    for rollout in rollouts:
        agent.update(rollout, 0.0)
    return matrices[-1]


def test_dagger_trains_on_all_rollouts_equally():
    config = DAggerConfig(**LEARNING | {"normalize_observations": False, "epochs": 20})
    agent = dagger_agent(BOX, config)
    rollouts = make_rollouts(BOX, count=4, ends=0.0)
    for k, rollout in enumerate(rollouts):
        rollout.obs[..., 2] = k  # index of the rollout
    learned = record_last_batch(agent, rollouts)
    shares = np.bincount(learned[:, 2].astype(int), minlength=4) / len(learned)
    np.testing.assert_allclose(shares, 0.25, atol=0.12)  # 128 rows: three standard deviations
    all_rows = {tuple(row) for rollout in rollouts for row in rollout.obs[:-1][rollout.mask]}
    assert {tuple(row) for row in learned[:, :SIZE]} <= all_rows


def test_labels_are_the_experts_clipped_actions():
    config = DAggerConfig(**LEARNING | {"normalize_observations": False})
    learned = record_last_batch(dagger_agent(BOX, config), make_rollouts(BOX))
    np.testing.assert_allclose(learned[:, SIZE:], Expert(BOX).clipped_actions(learned[:, :SIZE]), rtol=1e-6)
    assert (np.abs(learned[:, SIZE:]) == 1.0).any()  # clipped


def test_every_observation_is_equally_likely_to_be_in_the_buffer():
    """4 rollouts of 128 steps, capacity 64: each of the 512 must be in the buffer in 1 of 8 runs, early or late."""
    rollouts = make_rollouts(BOX, count=4, ends=0.0)
    for k, rollout in enumerate(rollouts):
        rollout.truncated[:], rollout.mask[:] = False, True
        rollout.obs[:-1, :, 2] = 128 * k + np.arange(128).reshape(32, 4)  # index of the observation
    config = DAggerConfig(**LEARNING | {"epochs": 1, "batch_size": 128}, dagger_buffer_size=64)
    counts, runs = np.zeros(512), 200
    for seed in range(runs):
        agent = dagger_agent(BOX, config, seed=seed)
        for rollout in rollouts:
            agent.update(rollout, 0.0)
        rows = agent.obs[: agent.buffer_len, 2].astype(int)
        assert len(np.unique(rows)) == 64
        counts[rows] += 1
    expected = runs / 8
    # A sample of k of n without replacement: the statistic below has n − 1 degrees of freedom.
    assert ((counts - expected) ** 2 / (expected * (1 - 1 / 8))).sum() < 511 + 4 * np.sqrt(2 * 511)
    for bins in (4, 16):  # by age
        by_age = counts.reshape(bins, -1).sum(1) / runs
        np.testing.assert_allclose(by_age, 64 / bins, rtol=0.06 * np.sqrt(bins / 4))  # four standard deviations


@pytest.mark.parametrize("beta_iters", [1, 4])
def test_expert_acts_if_the_noise_is_below_the_expert_share(beta_iters):
    agent = dagger_agent(BOX, DAggerConfig(**LEARNING, dagger_beta_iters=beta_iters))
    noise = agent.sample_noise(np.random.default_rng(0), 2000)
    assert noise.min() >= 0.0
    assert noise.max() < 1.0
    assert np.histogram(noise, 10, (0.0, 1.0))[0].std() < 30  # uniform: a standard deviation of 13.4
    obs = np.random.default_rng(1).normal(size=(2000, SIZE)).astype(np.float32)
    rollouts = make_rollouts(BOX)
    for k in range(beta_iters + 2):
        share = max(0.0, 1.0 - k / beta_iters)
        by_expert = noise[:, 0] < share
        acted = agent.sample_actions(obs, noise)
        np.testing.assert_array_equal(acted[by_expert], Expert(BOX).clipped_actions(obs)[by_expert])
        np.testing.assert_array_equal(acted[~by_expert], agent.predict_batch(obs)[~by_expert])
        agent.update(rollouts[k % 3], 0.0)
