"""GAIL and AIRL against independent implementations: losses, gradients, rewards and updates."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from milozero.agents.adversarial_config import AIRLConfig, GAILConfig
from milozero.agents.airl_agent import AIRLAgent
from milozero.agents.base import AgentContext
from milozero.agents.gail_agent import GAILAgent
from milozero.demonstrations.dataset import Episode, ImitationConfig
from milozero.helpers.comm import Comm
from milozero.helpers.seeding import Purpose, make_rng
from tests.support.fakes import on_workers
from tests.support.plain import (
    PlainActorCritic,
    adam,
    assert_same_metrics,
    assert_same_parameters,
    copy_parameters,
    descend,
    hidden_layers,
    make_rollouts,
    minibatches,
    update_batch_norm,
)
from tests.support.ppo_reference import PPOReference

BOX, DISCRETE = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3)
SIZE, SEED = 3, 4
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


class SpectrallyNormed(nn.Linear):
    """A linear layer divided by its largest singular value, from a decomposition."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight / torch.linalg.matrix_norm(self.weight, 2), self.bias)


class PlainMLPHead(nn.Module):
    """An MLP with one output."""

    def __init__(self, inputs, config):
        super().__init__()
        self.stack = hidden_layers(inputs, (6, 5), config.activation, batch_norm=config.d_batch_norm)
        self.head = nn.Linear(5, 1)
        if config.d_spectral_norm:
            for module in (self.stack[0], self.stack[2], self.head):
                module.__class__ = SpectrallyNormed

    def forward(self, x):
        return self.head(self.stack(x))[..., 0]


class PlainGAIL(nn.Module):
    """GAIL's features and discriminator."""

    def __init__(self, config, space):
        super().__init__()
        actions = 0 if config.d_state_only else space.shape[0] if space.shape else int(space.n)
        self.penalty_dims = SIZE + actions + config.d_absorbing
        self.scalar = PlainMLPHead(self.penalty_dims, config)
        self.double()
        self.config = config
        self.absorbing = torch.eye(self.penalty_dims, dtype=torch.float64)[-1]

    @property
    def agent_network(self):
        return self.scalar

    def forward(self, x):
        return self.scalar(x)

    def features(self, obs, actions, next_obs, not_terminated, log_probs):
        parts = [obs] if self.config.d_state_only else [obs, actions]
        parts += [torch.zeros_like(obs[..., :1])] * self.config.d_absorbing
        return torch.cat(parts, -1)

    def scores(self, inputs, mask):
        return self(inputs)

    def update_batch_norm(self, x):
        update_batch_norm(self.scalar.stack, x)


class PlainAIRL(nn.Module):
    """AIRL's features and discriminator f − log π. The absorbing state is (0, …, 0, 1), other states (s, 0)."""

    def __init__(self, config, space):
        super().__init__()
        actions = 0 if config.d_state_only else space.shape[0] if space.shape else int(space.n)
        self.size = SIZE + config.d_absorbing
        self.penalty_dims = 2 * self.size + actions
        self.reward, self.potential = PlainMLPHead(self.size + actions, config), PlainMLPHead(self.size, config)
        self.double()
        self.config = config
        state = torch.eye(self.size, dtype=torch.float64)[-1]
        self.absorbing = torch.cat([state, state, torch.zeros(actions), torch.tensor([1.0, 0.0])])

    @property
    def agent_network(self):
        return self

    def parts(self, x):
        obs, next_obs, actions, not_terminated, log_probs = x.split(
            [self.size, self.size, x.shape[-1] - 2 * self.size - 2, 1, 1], -1
        )
        return torch.cat([obs, actions], -1), obs, next_obs, not_terminated[..., 0], log_probs[..., 0]

    def f(self, x):
        reward_inputs, obs, next_obs, not_terminated, _ = self.parts(x)
        return (
            self.reward(reward_inputs)
            - self.potential(obs)
            + self.config.gamma * self.potential(next_obs) * not_terminated
        )

    def forward(self, x):
        return self.f(x) - x[..., -1]

    def features(self, obs, actions, next_obs, not_terminated, log_probs):
        if self.config.d_absorbing:
            terminated = (~not_terminated)[..., None].double()
            obs = torch.cat([obs, torch.zeros_like(terminated)], -1)
            next_obs = torch.cat([next_obs * (1.0 - terminated), terminated], -1)
            not_terminated = torch.ones_like(not_terminated)
        parts = [obs, next_obs] if self.config.d_state_only else [obs, next_obs, actions]
        return torch.cat([*parts, not_terminated[..., None].double(), log_probs[..., None]], -1)

    def scores(self, inputs, mask):
        return self.f(inputs) - inputs[mask][:, -1].mean()  # the absorbing state is not in `mask`

    def update_batch_norm(self, x):
        reward_inputs, obs, next_obs, *_ = self.parts(x)
        update_batch_norm(self.reward.stack, reward_inputs)
        update_batch_norm(self.potential.stack, torch.cat([obs, next_obs]))


def discriminator_loss(discriminator, config, batch):
    """Return the discriminator's loss and metrics of a minibatch."""
    expert, policy = discriminator(batch["expert"]), discriminator(batch["policy"])
    cross_entropy = nn.functional.binary_cross_entropy_with_logits
    cross_entropy_loss = cross_entropy(expert, torch.full_like(expert, 1.0 - config.d_label_smoothing))
    cross_entropy_loss = cross_entropy_loss + cross_entropy(policy, torch.zeros_like(policy))
    predictions = torch.distributions.Bernoulli(logits=torch.stack([expert, policy]))
    penalty = torch.zeros(())
    if config.d_penalty != "none":
        mix = batch["mix"]
        points = (1 - mix) * batch["expert"] + mix * batch["policy"]
        if config.d_penalty == "dragan":
            points = batch["expert"] + mix * batch["noise"]
        points = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
        grad_norm = gradient[:, : discriminator.penalty_dims].norm(dim=1)
        included = grad_norm > 1.0 if config.d_penalty == "one_sided" else torch.ones_like(grad_norm, dtype=bool)
        penalty = torch.where(included, (grad_norm - 1.0) ** 2, 0.0).mean()
    loss = cross_entropy_loss + config.d_penalty_coef * penalty - config.d_ent_coef * predictions.entropy().mean()
    means = {"d_prob_expert": predictions.probs[0].mean(), "d_prob_policy": predictions.probs[1].mean()}
    return loss, {"d_loss": cross_entropy_loss, "d_penalty": penalty} | means


def compute_reward(score, form):
    d = 1.0 / (1.0 + np.exp(-score))
    return {"positive": -np.log(1 - d), "negative": np.log(d), "unbiased": np.log(d) - np.log(1 - d)}[form]


class AdversarialReference:
    """Trains a discriminator and PPO's reference on its reward, with the data of all workers."""

    def __init__(self, agent, plain, space, demos, workers=1):
        self.config, self.space, self.discriminator = agent.config, space, plain
        network = PlainActorCritic(SIZE, space, (8, 8), (7, 6))
        copy_parameters(network, agent.network)
        copy_parameters(plain.agent_network, agent.discriminator)
        self.ppo = PPOReference(agent.config, network, seed=SEED, workers=workers)
        self.rngs = [make_rng(SEED, Purpose.DISCRIMINATOR, rank) for rank in range(workers)]
        self.adam = adam([(list(plain.parameters()), agent.config.d_lr)])
        self.demos, self.iteration = demos, 0
        self.ended = [np.zeros(4 // workers, bool) for _ in range(workers)]

    def features(self, obs, actions, next_obs, terminated):
        """Return the features of steps, with the current policy and normalizer."""
        normalized, normalized_next = self.ppo.normalizer(obs), self.ppo.normalizer(next_obs)
        clipped = torch.tensor(np.clip(actions, -1, 1) if self.space.shape else actions)
        shape = normalized.shape[:-1]
        with torch.no_grad():
            policy = self.ppo.network.distribution(normalized.flatten(0, -2))
            log_probs = policy.log_prob(clipped.flatten(0, len(shape) - 1)).reshape(shape)
        encoded = clipped.double() if self.space.shape else nn.functional.one_hot(clipped, int(self.space.n)).double()
        return self.discriminator.features(normalized, encoded, normalized_next, torch.tensor(~terminated), log_probs)

    def sample_expert(self, rng, count):
        obs, next_obs = (np.concatenate([e.obs[steps] for e in self.demos]) for steps in (slice(-1), slice(1, None)))
        ends = np.concatenate([np.arange(1, len(e) + 1) == (len(e) if e.terminated else 0) for e in self.demos])
        rows = rng.integers(len(obs), size=count)
        actions = np.concatenate([e.actions for e in self.demos])
        inputs = self.features(obs[rows], actions[rows], next_obs[rows], ends[rows])
        if self.config.d_absorbing:
            inputs[torch.tensor(rng.random(count) < ends.sum() / (len(ends) + ends.sum()))] = (
                self.discriminator.absorbing
            )
        return inputs

    def policy_features(self, worker, rollout):
        inputs = self.features(rollout.obs[:-1], rollout.actions, rollout.obs[1:], rollout.terminated)
        valid = rollout.mask.copy()
        if self.config.d_absorbing:
            for t, n in np.argwhere(~rollout.mask):
                if rollout.terminated[t - 1, n] if t else self.ended[worker][n]:
                    inputs[t, n], valid[t, n] = self.discriminator.absorbing, True
        return inputs, torch.tensor(valid)

    def update(self, rollouts, progress):
        config = self.config
        own = [self.policy_features(worker, rollout) for worker, rollout in enumerate(rollouts)]
        metrics = dict.fromkeys(("d_loss", "d_prob_expert", "d_prob_policy", "d_penalty"), math.nan)
        trained = self.iteration % config.g_steps == 0
        if trained:
            metrics = self._update_discriminator([inputs[valid] for inputs, valid in own], rollouts[0].mask.size)
        self.iteration += 1
        mask = [torch.tensor(rollout.mask) for rollout in rollouts]
        width = own[0][0].shape[-1]
        all_features = torch.cat([inputs.reshape(-1, width) for inputs, _ in own])
        with torch.no_grad():
            scores = self.discriminator.scores(all_features, torch.cat([each.flatten() for each in mask]))
            end = 0.0
            if config.d_absorbing:
                reward = float(
                    compute_reward(self.discriminator(self.discriminator.absorbing[None]), config.d_reward)
                )
                end = sum(reward * config.gamma**k for k in range(1000))
        split = scores.numpy().reshape(len(rollouts), *rollouts[0].mask.shape)
        rewards = [
            np.where(r.mask, compute_reward(s, config.d_reward), 0.0) for r, s in zip(rollouts, split, strict=True)
        ]
        rollouts = [dataclasses.replace(r, rewards=reward) for r, reward in zip(rollouts, rewards, strict=True)]
        metrics["d_reward"] = float(np.mean([r.rewards[r.mask].mean() for r in rollouts]))
        metrics |= self.ppo.update(rollouts, progress, end)
        if trained and config.d_batch_norm:  # normalized by the moments that include these rollouts
            renormalized = [self.policy_features(worker, rollout) for worker, rollout in enumerate(rollouts)]
            policy = [inputs[valid] for inputs, valid in renormalized]
            expert = [self.sample_expert(rng, len(own)) for rng, own in zip(self.rngs, policy, strict=True)]
            self.discriminator.update_batch_norm(torch.cat([*expert, *policy]))
        self.ended = [rollout.terminated[-1].copy() for rollout in rollouts]
        return metrics

    def _update_discriminator(self, policy, count):
        config, results = self.config, []
        for _ in range(config.d_steps):
            fields = {name: [] for name in ("expert", "policy", "mix", "noise")}
            for rng, steps in zip(self.rngs, policy, strict=True):
                chosen = self.sample_expert(rng, count)
                order = rng.permutation(len(steps))
                fields["expert"].append(chosen)
                fields["policy"].append(steps[[order[i % len(order)] for i in range(count)]])
                if config.d_penalty != "none":
                    fields["mix"].append(torch.tensor(rng.random((count, 1), np.float32)))
                if config.d_penalty == "dragan":
                    drawn = torch.tensor(rng.random((*chosen.shape,), np.float32))
                    fields["noise"].append(0.5 * chosen.std(0, correction=0) * drawn)
            fields = {name: parts for name, parts in fields.items() if parts}
            for rows in minibatches(self.rngs, count, config.d_batch_size):
                batch = {
                    name: torch.cat([part[indices] for part, indices in zip(parts, rows, strict=True)])
                    for name, parts in fields.items()
                }
                loss, metrics = discriminator_loss(self.discriminator, config, batch)
                descend(self.adam, loss, 0.0)
                results.append(metrics)
        means = {name: float(np.mean([each[name].item() for each in results])) for name in results[0]}
        return means


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
