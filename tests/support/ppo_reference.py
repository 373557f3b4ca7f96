"""An independent implementation of PPO, which the agent must match parameter by parameter.

It processes the rollouts of all workers at once. Nothing is recursive or updated in place: sums are written out, and
moments are computed from all samples so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from gymnasium import spaces

from milozero.agents.base import AgentContext
from milozero.agents.ppo_agent import PPOAgent
from milozero.agents.ppo_config import PPOConfig
from milozero.agents.rollout import Rollout
from milozero.helpers.comm import Comm
from milozero.helpers.seeding import Purpose, make_rng
from tests.support.plain import (
    PlainActorCritic,
    PlainMoments,
    PlainNormalizer,
    adam,
    assert_same_metrics,
    assert_same_parameters,
    copy_parameters,
    descend,
    make_rollouts,
    minibatches,
)

BOX, DISCRETE = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3)
SIZE, SEED = 3, 5
# Steps so large that everything is clipped sometimes.
CLIPPING = {
    "p_perception_stack": "mlp_8",
    "v_perception_stack": "mlp_7_6",
    "p_lr": 0.02,
    "v_lr": 0.03,
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "clip_range": 0.15,
    "clip_norm": 0.7,
    "clip_obs": 2.5,
    "clip_reward": 2.5,
    "batch_size": 32,
    "epochs": 4,
}


def split_episodes(rollout: Rollout) -> Iterator[tuple[int, list[int]]]:
    """Yield (environment, steps) for the part of each episode in the rollout, without padding steps."""
    last = len(rollout.rewards) - 1
    for n in range(rollout.rewards.shape[1]):
        steps: list[int] = []
        for t in range(last + 1):
            if rollout.mask[t, n]:
                steps.append(t)
            if steps and (rollout.terminated[t, n] or rollout.truncated[t, n] or t == last):
                yield n, steps
                steps = []


def compute_advantages(
    rollout: Rollout, rewards: np.ndarray, values: np.ndarray, gamma: float, lambda_: float
) -> np.ndarray:
    """Return Σ_k (γλ)^k δ_{t+k} over the rest of the episode, for each step (T, N); 0 for padding steps."""
    advantages = np.zeros(rewards.shape)
    for n, steps in split_episodes(rollout):
        errors = []
        for t in steps:
            next_value = 0.0 if rollout.terminated[t, n] else values[t + 1, n]
            errors.append(rewards[t, n] + gamma * next_value - values[t, n])
        for index, t in enumerate(steps):
            advantages[t, n] = sum((gamma * lambda_) ** k * error for k, error in enumerate(errors[index:]))
    return advantages


class PlainRewardScaler(PlainMoments):
    """Divides rewards by the standard deviation of all discounted returns so far."""

    def __init__(self, config: PPOConfig) -> None:
        super().__init__()
        self.config = config
        self.running: dict[tuple[int, int], list[float]] = {}  # (worker, environment) → rewards of the episode

    def __call__(self, rollouts: Sequence[Rollout]) -> list[np.ndarray]:
        if not self.config.normalize_rewards:
            return [rollout.rewards.astype(np.float64) for rollout in rollouts]
        returns = []
        for worker, rollout in enumerate(rollouts):
            for n, steps in split_episodes(rollout):
                episode_rewards = self.running.setdefault((worker, n), [])
                for t in steps:
                    episode_rewards.append(float(rollout.rewards[t, n]))
                    past = reversed(episode_rewards)
                    returns.append(sum(self.config.gamma**k * reward for k, reward in enumerate(past)))
                    if rollout.terminated[t, n] or rollout.truncated[t, n]:
                        episode_rewards.clear()
        self.add(np.array(returns))
        limit = self.config.clip_reward
        return [np.clip(rollout.rewards / self.std, -limit, limit) for rollout in rollouts]

    @property
    def divisor(self) -> float:
        return float(self.std) if self.config.normalize_rewards else 1.0


class PPOReference:
    """Learns from the rollouts of all workers; `counts` counts the effects of clipping."""

    def __init__(self, config: PPOConfig, network: PlainActorCritic, *, seed: int, workers: int = 1) -> None:
        self.config, self.network = config, network
        self.rngs = [make_rng(seed, Purpose.SHUFFLE, rank) for rank in range(workers)]
        named = dict(network.named_parameters())
        self.adam = adam(
            [
                ([p for name, p in named.items() if name.split(".")[0] in ("policy", "head")], config.p_lr),
                ([p for name, p in named.items() if name.split(".")[0] in ("value", "value_head")], config.v_lr),
            ]
        )
        self.normalizer = PlainNormalizer(config.clip_obs, config.normalize_observations)
        self.reward_scaler = PlainRewardScaler(config)
        self.counts: Counter[str] = Counter()

    def update(self, rollouts: Sequence[Rollout], progress: float, terminal_value: float = 0.0) -> dict[str, float]:
        config = self.config
        for group in self.adam.param_groups:
            group["lr"] = group["start"] * (1.0 - progress if config.lr_schedule == "linear" else 1.0)
        rewards = self.reward_scaler(rollouts)
        for scaled, rollout in zip(rewards, rollouts, strict=True):
            scaled[rollout.terminated] += config.gamma * terminal_value / self.reward_scaler.divisor
        obs = [self.normalizer(rollout.obs) for rollout in rollouts]
        rows = rollouts[0].mask.size
        fields = {
            "obs": [each[:-1].reshape(rows, -1) for each in obs],
            "mask": [torch.tensor(rollout.mask.reshape(rows)) for rollout in rollouts],
        }
        actions = [torch.tensor(rollout.actions.reshape(rows, *rollout.actions.shape[2:])) for rollout in rollouts]
        with torch.no_grad():
            fields["old_log_probs"] = [
                self.network.distribution(obs_).log_prob(actions_)
                for obs_, actions_ in zip(fields["obs"], actions, strict=True)
            ]
        valid_share = np.mean([rollout.mask.mean() for rollout in rollouts])
        epoch_metrics: list[dict[str, float]] = []
        explained_variances: list[float] = []
        for epoch in range(config.epochs):
            if epoch == 0 or config.recompute_advantages:
                estimates, explained_variance = self._estimates(rollouts, rewards, obs)
                fields |= estimates
                explained_variances.append(explained_variance)
            fields["actions"] = [self._perturb(each, rng) for each, rng in zip(actions, self.rngs, strict=True)]
            steps = []
            for worker_rows in minibatches(self.rngs, rows, config.batch_size):
                batch = {
                    name: torch.cat([values[worker][indices] for worker, indices in enumerate(worker_rows)])
                    for name, values in fields.items()
                }
                steps.append(self._step(batch, len(batch["mask"]) * valid_share))
            epoch_metrics.append({name: np.mean([step[name] for step in steps]) for name in steps[0]})
            if config.target_kl and epoch_metrics[-1]["approx_kl"] > config.target_kl:
                break
        valid_obs = np.concatenate([rollout.obs[:-1][rollout.mask] for rollout in rollouts])
        self.normalizer.add(valid_obs)
        self.network.update_batch_norm(self.normalizer(valid_obs))
        metrics = {name: float(np.mean([each[name] for each in epoch_metrics])) for name in epoch_metrics[0]}
        return metrics | {
            "explained_variance": explained_variances[0],
            "learning_rate": self.adam.param_groups[0]["lr"],
            "epochs": float(len(epoch_metrics)),
        }

    def _perturb(self, actions: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Return actions minus RPO's perturbation of the means."""
        alpha = self.config.rpo_alpha
        return actions - torch.tensor(rng.uniform(-alpha, alpha, (*actions.shape,))) if alpha else actions

    @torch.no_grad()
    def _estimates(self, rollouts, rewards, obs) -> tuple[dict[str, list[torch.Tensor]], float]:
        values = [self.network.values(each.flatten(0, 1)).reshape(each.shape[:2]).numpy() for each in obs]
        per_worker = zip(rollouts, rewards, values, strict=True)
        advantages = [compute_advantages(*each, self.config.gamma, self.config.gae_lambda) for each in per_worker]
        olds = [each[:-1] for each in values]
        returns = [a + v for a, v in zip(advantages, olds, strict=True)]
        explained_variances = []
        for rollout, target, old in zip(rollouts, returns, olds, strict=True):
            residuals, targets = (target - old)[rollout.mask], target[rollout.mask]
            explained_variances.append(1.0 - np.mean((residuals - residuals.mean()) ** 2) / np.var(targets))
        if self.config.normalize_advantages:
            valid = np.concatenate([a[rollout.mask] for a, rollout in zip(advantages, rollouts, strict=True)])
            advantages = [(a - valid.mean()) / (valid.std() + 1e-8) for a in advantages]
        flat = {"advantages": advantages, "returns": returns, "old_values": olds}
        estimates = {name: [torch.tensor(each.reshape(-1)) for each in arrays] for name, arrays in flat.items()}
        return estimates, float(np.mean(explained_variances))

    def _step(self, batch: dict[str, torch.Tensor], count: float) -> dict[str, float]:
        """Take one step on a minibatch without its padding steps; means are sums divided by `count`."""
        config, eps = self.config, self.config.clip_range
        mask = batch.pop("mask")
        batch = {name: field[mask] for name, field in batch.items()}
        distribution = self.network.distribution(batch["obs"])
        log_ratio = distribution.log_prob(batch["actions"]) - batch["old_log_probs"]
        ratio, advantages = log_ratio.exp(), batch["advantages"]
        clipped_ratio = torch.where(advantages > 0, ratio.clamp(max=1.0 + eps), ratio.clamp(min=1.0 - eps))
        policy_loss = -(clipped_ratio * advantages).sum() / count

        values, old = self.network.values(batch["obs"]), batch["old_values"]
        errors = (batch["returns"] - values) ** 2
        if config.clip_value_loss:
            clipped = torch.minimum(torch.maximum(values, old - eps), old + eps)
            clipped_errors = (batch["returns"] - clipped) ** 2
            self.counts["value clipped"] += int((clipped_errors > errors + 1e-9).sum())
            self.counts["value not clipped"] += int((errors > clipped_errors + 1e-9).sum())
            errors = torch.where(clipped_errors > errors, clipped_errors, errors)
        value_loss = errors.sum() / (2.0 * count)
        entropy = distribution.entropy().sum() / count
        loss = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
        norm = descend(self.adam, loss, config.clip_norm)

        outside = (ratio > 1.0 + eps) | (ratio < 1.0 - eps)
        for side, where in (("above", ratio > 1.0 + eps), ("below", ratio < 1.0 - eps)):
            for sign, which in (("good", advantages > 0), ("bad", advantages < 0)):
                self.counts[f"{side}, {sign}"] += int((where & which).sum())
        self.counts["gradient clipped" if norm > config.clip_norm > 0 else "gradient not clipped"] += 1
        return {
            "policy_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "entropy": entropy.item(),
            "approx_kl": ((ratio - 1.0) - log_ratio).sum().item() / count,
            "clip_fraction": outside.sum().item() / count,
            "grad_norm": norm,
        }


def make_agent(space, config, comm=None, num_envs=4, compile=False):
    return PPOAgent(config, SIZE, space, AgentContext(comm or Comm(), seed=SEED, num_envs=num_envs, compile=compile))


def make_reference(agent, space, config, workers=1):
    widths = None if config.shared_value else (7, 6)
    norms = {"batch_norm": config.batch_norm_all, "layer_norm": config.layer_norm}
    network = PlainActorCritic(SIZE, space, (8, 8), widths, config.activation, **norms)
    copy_parameters(network, agent.network)
    return PPOReference(config, network, seed=SEED, workers=workers)


def train_with_reference(space, terminal_value=0.0, compile=False, **options):
    """Compare three updates of the agent and of the reference; return the reference."""
    config = PPOConfig(**CLIPPING | options)
    agent = make_agent(space, config, compile=compile)
    reference = make_reference(agent, space, config)
    for k, rollout in enumerate(make_rollouts(space)):
        metrics = agent.update(rollout, k / 4, terminal_value=terminal_value)
        expected = reference.update([rollout], k / 4, terminal_value)
        assert set(expected) == set(metrics)
        assert_same_metrics(expected, metrics)
        assert_same_parameters(reference.network, agent.network)
    return reference
