"""Independent implementations of GAIL and AIRL, which the agents must match parameter by parameter."""

import dataclasses
import math

import numpy as np
import torch
from torch import nn

from milozero.helpers.seeding import Purpose, make_rng
from tests.support.plain import (
    PlainActorCritic,
    adam,
    copy_parameters,
    descend,
    hidden_layers,
    minibatches,
    update_batch_norm,
)
from tests.support.ppo_reference import PPOReference

SIZE, SEED = 3, 4


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
