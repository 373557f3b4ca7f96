"""PPO in the style of CleanRL's single-file implementations, as a baseline; prints one JSON line.

It uses eager torch, gymnasium's SyncVectorEnv, and gymnasium's wrappers to normalize observations and rewards: the
same work as this project's default settings, at the benchmark's sizes. throughput.py runs it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

ROLLOUT, BATCH, EPOCHS, GAMMA, LAMBDA, CLIP = 2048, 64, 10, 0.99, 0.95, 0.2


def make_env(env_id: str) -> Any:
    """Create an environment with the usual wrappers."""
    env: Any = gymnasium.wrappers.ClipAction(gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(env_id)))
    env = gymnasium.wrappers.NormalizeObservation(env)
    space = env.observation_space
    env = gymnasium.wrappers.TransformObservation(env, lambda obs: np.clip(obs, -10, 10), space)
    env = gymnasium.wrappers.NormalizeReward(env, gamma=GAMMA)
    return gymnasium.wrappers.TransformReward(env, lambda reward: float(np.clip(reward, -10, 10)))


def mlp(inputs: int, outputs: int, gain: float) -> nn.Sequential:
    """Create an MLP with two tanh layers of 64 units and a linear output layer."""
    layers = [nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)]
    for layer, scale in zip(layers[::2], (math.sqrt(2), math.sqrt(2), gain), strict=True):
        nn.init.orthogonal_(layer.weight, scale)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class Agent(nn.Module):
    """Policy and value function."""

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        self.mean, self.value = mlp(observations, actions, 0.01), mlp(observations, 1, 1.0)
        self.log_std = nn.Parameter(torch.zeros(1, actions))

    def forward(self, obs: torch.Tensor, action: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Return action, log-probability, entropy and value."""
        policy = Normal(self.mean(obs), self.log_std.exp())
        action = policy.sample() if action is None else action
        return action, policy.log_prob(action).sum(1), policy.entropy().sum(1), self.value(obs).squeeze(1)


def train(env_id: str, num_envs: int, iterations: int) -> float:
    """Train PPO and return steps per second after the first two iterations."""
    mode = gymnasium.vector.AutoresetMode.NEXT_STEP
    envs = gymnasium.vector.SyncVectorEnv([lambda: make_env(env_id)] * num_envs, autoreset_mode=mode)
    size, shape = envs.single_observation_space.shape[0], envs.single_action_space.shape
    agent = Agent(size, shape[0])
    adam = torch.optim.Adam(agent.parameters(), lr=3e-4, eps=1e-5)
    steps = ROLLOUT // num_envs
    obs, actions = torch.zeros(steps, num_envs, size), torch.zeros(steps, num_envs, *shape)
    log_probs, rewards, dones, values = (torch.zeros(steps, num_envs) for _ in range(4))
    next_obs = torch.tensor(envs.reset(seed=0)[0], dtype=torch.float32)
    next_done = torch.zeros(num_envs)
    for iteration in range(iterations):
        if iteration == 2:
            started = time.perf_counter()
        adam.param_groups[0]["lr"] = 3e-4 * (1.0 - iteration / iterations)
        for t in range(steps):
            obs[t], dones[t] = next_obs, next_done
            with torch.no_grad():
                actions[t], log_probs[t], _, values[t] = agent(next_obs)
            new_obs, reward, terminated, truncated, _ = envs.step(actions[t].numpy())
            rewards[t] = torch.as_tensor(reward)
            next_obs = torch.tensor(new_obs, dtype=torch.float32)
            next_done = torch.tensor(terminated | truncated, dtype=torch.float32)
        with torch.no_grad():
            next_value, trace = agent.value(next_obs).squeeze(1), torch.zeros(num_envs)
            advantages = torch.zeros_like(rewards)
            for t in reversed(range(steps)):
                going_on = 1.0 - (next_done if t == steps - 1 else dones[t + 1])
                following = next_value if t == steps - 1 else values[t + 1]
                trace = rewards[t] + GAMMA * following * going_on - values[t] + GAMMA * LAMBDA * going_on * trace
                advantages[t] = trace
        flat = [x.flatten(0, 1) for x in (obs, actions, log_probs, advantages, advantages + values, values)]
        for _ in range(EPOCHS):
            for rows in torch.randperm(ROLLOUT).split(BATCH):
                o, a, old, adv, return_, val = (x[rows] for x in flat)
                _, new, entropy, value = agent(o, a)
                ratio = (new - old).exp()
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                policy_loss = torch.max(-adv * ratio, -adv * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
                clipped = val + (value - val).clamp(-CLIP, CLIP)
                value_loss = 0.5 * torch.max((value - return_) ** 2, (clipped - return_) ** 2).mean()
                adam.zero_grad()
                (policy_loss + 0.5 * value_loss - 0.0 * entropy.mean()).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                adam.step()
    return (iterations - 2) * ROLLOUT / (time.perf_counter() - started)


def main() -> None:
    """Train and print steps per second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env_id", required=True)
    parser.add_argument("--num_envs", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps({"steps_per_second": train(args.env_id, args.num_envs, args.iterations)}))


if __name__ == "__main__":
    main()
