"""SAC, TD3 and IQ-Learn in plain torch: separate networks, autograd and torch's Adam, without any of our code."""

import math

import torch
from torch.nn import functional

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def mlp(params, prefix, x):
    """Apply linear layers with ReLU between them, from the parameters `prefix.0.weight` …, (out, in)."""
    numbers = sorted({int(name.split(".")[-2]) for name in params if name.startswith(prefix)})
    for number in numbers:
        weight, bias = (params[f"{prefix}{number}.{name}"] for name in ("weight", "bias"))
        x = functional.relu(functional.linear(x, weight, bias))
    return x


def critic(params, index, obs, actions):
    x = torch.cat([obs, actions], 1)
    numbers = sorted({int(name.split(".")[-2]) for name in params if name.startswith("critics.")})
    for number in numbers:
        weight, bias = (params[f"critics.layers.{number}.{name}"][index] for name in ("weight", "bias"))
        is_norm = len(weight) == 1  # layer normalization, which follows a linear layer
        x = functional.layer_norm(x, x.shape[1:]) * weight + bias if is_norm else x @ weight + bias
        if number != numbers[-1] and number + 1 not in numbers:  # an activation function comes next
            x = functional.relu(x)
    return x[:, 0]


class Reference:
    """Parameters by our names, trained by one Adam optimizer for each network."""

    def __init__(self, params, config):
        self.params = {name: value.clone().requires_grad_() for name, value in params.items()}
        self.targets = {name: value.clone() for name, value in params.items()}
        self.config, self.steps = config, 0

        def adam(lr, *prefixes):
            chosen = [value for name, value in self.params.items() if name.startswith(prefixes)]
            return torch.optim.Adam(chosen, lr=lr) if chosen else None

        self.critic_adam = adam(config.q_lr, "critics.")
        self.policy_adam = adam(config.p_lr, "policy.", "head.")
        self.alpha_adam = adam(getattr(config, "ent_lr", 0.0), "temperature.")

    def head(self, params, obs):
        x = mlp(params, "policy.", obs)
        return functional.linear(x, params["head.output.weight"], params["head.output.bias"])

    def step(self, batch):
        """One update; every loss sees the parameters from before the update."""
        self.steps += 1
        full = self.steps % self.config.policy_delay == 0
        losses = [(self.critic_loss(batch), self.critic_adam)]
        if full:
            losses += self.policy_losses(batch)
        for loss, adam in losses:
            own = adam.param_groups[0]["params"]
            for parameter, gradient in zip(own, torch.autograd.grad(loss, own), strict=True):
                parameter.grad = gradient
        for _, adam in losses:
            adam.step()
        self.move_targets(full)

    def critic_loss(self, batch):
        values = self.next_values({name: value.detach() for name, value in self.params.items()}, batch)
        target = (batch["rewards"] + batch["discounts"] * values).detach()
        q = [critic(self.params, i, batch["obs"], batch["actions"]) for i in (0, 1)]
        return sum(0.5 * functional.mse_loss(each, target) for each in q)

    def move_targets(self, full):
        for name, value in self.params.items():
            self.targets[name] += self.config.tau * (value.detach() - self.targets[name])


class SAC(Reference):
    def sample(self, params, obs, noise):
        mean, log_std = self.head(params, obs).chunk(2, 1)
        distribution = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        u = mean + distribution.scale * noise
        action = torch.tanh(u)
        return action, (distribution.log_prob(u) - torch.log(1 - action.double() ** 2).float()).sum(1)

    def next_values(self, params, batch):
        actions, log_prob = self.sample(params, batch["next_obs"], batch["noise"].chunk(2, 1)[0])
        q = torch.minimum(*(critic(self.targets, i, batch["next_obs"], actions) for i in (0, 1)))
        return q - params["temperature.log_alpha"].exp() * log_prob

    def policy_losses(self, batch):
        actions, log_prob = self.sample(self.params, batch["obs"], batch["noise"].chunk(2, 1)[1])
        log_alpha = self.params["temperature.log_alpha"]
        q = torch.minimum(*(critic(self.params, i, batch["obs"], actions) for i in (0, 1)))
        policy_loss = (log_alpha.exp().detach() * log_prob - q).mean()
        target = -actions.shape[1] if self.config.target_entropy is None else self.config.target_entropy
        alpha_loss = -(log_alpha * (log_prob.detach() + target)).mean()
        losses = [(policy_loss, self.policy_adam)]
        return losses if self.config.ent_coef else [*losses, (alpha_loss, self.alpha_adam)]


class IQ(SAC):
    """Rewards in batches mark the expert's steps by 1."""

    def critic_loss(self, batch):
        fixed = {name: value.detach() for name, value in self.params.items()}
        following = batch["discounts"] * self.next_values(fixed, batch)
        actions, log_prob = self.sample(fixed, batch["obs"], batch["noise"].chunk(2, 1)[1])
        soft = torch.minimum(*(critic(self.params, i, batch["obs"], actions) for i in (0, 1)))
        soft = soft - fixed["temperature.log_alpha"].exp() * log_prob
        losses = []
        for i in (0, 1):
            reward = critic(self.params, i, batch["obs"], batch["actions"]) - following
            of_expert = reward[batch["rewards"] == 1]
            losses.append((reward**2).mean() / (4 * self.config.iq_alpha) - of_expert.mean())
        return sum(losses) / 2 + (soft - following).mean()


class TD3(Reference):
    def next_values(self, params, batch):
        noise = batch["noise"] * self.config.target_noise
        limit = self.config.target_noise_clip
        actions = torch.tanh(self.head(self.targets, batch["next_obs"])) + noise.clip(-limit, limit)
        return torch.minimum(*(critic(self.targets, i, batch["next_obs"], actions.clip(-1, 1)) for i in (0, 1)))

    def policy_losses(self, batch):
        actions = torch.tanh(self.head(self.params, batch["obs"]))
        return [(-critic(self.params, 0, batch["obs"], actions).mean(), self.policy_adam)]

    def move_targets(self, full):
        if full:
            super().move_targets(full)
