"""Simple networks, running moments and optimizer steps, for the reference implementations in tests.

They share only the random streams with the code under test. All arithmetic is in double precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import distributions, nn

from milozero.agents.rollout import Rollout

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}


class RunningBatchNorm(nn.BatchNorm1d):
    """Torch's batch normalization in evaluation mode, with running moments of whole rollouts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)

    def update_batch_norm(self, x: torch.Tensor) -> None:
        weight_new = max(0.1, 1.0 / (int(self.num_batches_tracked) + 1))
        self.running_mean = (1.0 - weight_new) * self.running_mean + weight_new * x.mean(0)
        self.running_var = (1.0 - weight_new) * self.running_var + weight_new * x.var(0, correction=0)
        self.num_batches_tracked += 1


def hidden_layers(
    inputs: int, widths: Sequence[int], activation: str, *, batch_norm: bool = False, layer_norm: bool = False
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Linear(inputs, width))
        layers += [RunningBatchNorm(width)] * batch_norm
        layers += [nn.LayerNorm(width)] * layer_norm
        layers.append(ACTIVATIONS[activation]())
        inputs = width
    return nn.Sequential(*layers)


@torch.no_grad()
def update_batch_norm(stack: nn.Sequential, x: torch.Tensor) -> None:
    """Update the running moments, layer by layer."""
    for index, layer in enumerate(stack):
        if isinstance(layer, RunningBatchNorm):
            layer.update_batch_norm(stack[:index](x))


class PlainPolicy(nn.Module):
    """A policy that uses `torch.distributions`, with the parameter names of the agent's network."""

    def __init__(self, size: int, space, widths: Sequence[int] = (8, 8), activation: str = "tanh", **norms) -> None:
        super().__init__()
        self.policy = hidden_layers(size, widths, activation, **norms)
        self.head = nn.Module()
        self.head.output = nn.Linear(widths[-1], int(space.shape[0]) if space.shape else int(space.n))
        if space.shape:
            self.head.log_std = nn.Parameter(torch.zeros(space.shape))
        self.double()

    def distribution(self, obs: torch.Tensor) -> distributions.Distribution:
        outputs = self.head.output(self.policy(obs))
        if hasattr(self.head, "log_std"):
            return distributions.Independent(distributions.Normal(outputs, self.head.log_std.exp()), 1)
        return distributions.Categorical(logits=outputs)

    def update_batch_norm(self, obs: torch.Tensor) -> None:
        update_batch_norm(self.policy, obs)


class PlainActorCritic(PlainPolicy):
    """A policy and a value function, which share hidden layers if `value_widths` is empty."""

    def __init__(self, size, space, widths=(8, 8), value_widths=(7, 6), activation="tanh", **norms) -> None:
        super().__init__(size, space, widths, activation, **norms)
        self.value = hidden_layers(size, value_widths, activation, **norms) if value_widths else None
        self.value_head = nn.Linear((value_widths or widths)[-1], 1)
        self.double()

    def values(self, obs: torch.Tensor) -> torch.Tensor:
        return self.value_head((self.value or self.policy)(obs)).squeeze(-1)

    def update_batch_norm(self, obs: torch.Tensor) -> None:
        super().update_batch_norm(obs)
        if self.value is not None:
            update_batch_norm(self.value, obs)


def copy_parameters(plain: nn.Module, network: nn.Module) -> None:
    """Copy the initial parameters of a network."""
    initial = dict(network.named_parameters())
    copies = dict(plain.named_parameters())
    assert set(copies) == set(initial)
    with torch.no_grad():
        for name, parameter in copies.items():
            parameter.copy_(initial[name])


def assert_same_parameters(plain: nn.Module, network: nn.Module, tolerance: float = 1e-5) -> None:
    """Compare all parameters and the running moments of batch normalization."""
    renamed = {"running_mean": "mean", "running_var": "var", "num_batches_tracked": "count"}
    actual = network.state_dict()
    for name, expected in plain.state_dict().items():
        stem, _, last = name.rpartition(".")
        other = actual.pop(f"{stem}.{renamed.get(last, last)}")
        torch.testing.assert_close(
            other.double(), expected.double(), atol=tolerance, rtol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )
    assert not actual


def assert_same_metrics(expected: Mapping[str, float], actual: Mapping[str, float]) -> None:
    """Compare the metrics of the reference."""
    assert expected.keys() <= actual.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=2e-5, err_msg=name)


class PlainMoments:
    """Stores all samples, and computes their moments from scratch."""

    def __init__(self) -> None:
        self.samples: list[np.ndarray] = []

    def add(self, samples: np.ndarray) -> None:
        self.samples.append(np.asarray(samples, np.float64))

    @property
    def mean(self):
        return np.concatenate(self.samples).mean(0) if self.samples else 0.0

    @property
    def std(self):
        return np.sqrt(np.concatenate(self.samples).var(0) + 1e-8) if self.samples else 1.0


class PlainNormalizer(PlainMoments):
    """Normalizes observations by all samples so far, and clips them."""

    def __init__(self, clip: float, enabled: bool = True) -> None:
        super().__init__()
        self.clip, self.enabled = clip, enabled

    def __call__(self, obs: np.ndarray) -> torch.Tensor:
        obs_tensor = torch.tensor(obs, dtype=torch.float64)
        return ((obs_tensor - self.mean) / self.std).clamp(-self.clip, self.clip) if self.enabled else obs_tensor


def adam(groups: Sequence[tuple[Sequence[nn.Parameter], float]]) -> torch.optim.Adam:
    """Return torch's Adam with a learning rate per group of parameters, and PPO's epsilon."""
    return torch.optim.Adam([{"params": list(params), "lr": lr, "start": lr} for params, lr in groups], eps=1e-5)


def descend(optimizer: torch.optim.Adam, loss: torch.Tensor, clip_norm: float) -> float:
    """Take one step; return the norm of the gradient before clipping."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(params, clip_norm or float("inf"))
    optimizer.step()
    return float(norm)


def minibatches(rngs: Sequence[np.random.Generator], rows: int, size: int) -> Iterator[list[np.ndarray]]:
    """Yield the rows of each worker for each minibatch of an epoch, without a remainder."""
    orders = [rng.permutation(rows) for rng in rngs]
    for k in range(rows // size):
        yield [order[k * size : (k + 1) * size] for order in orders]


def make_rollouts(space, count=3, steps=32, num_envs=4, size=3, seed=0, ends=0.12) -> list[Rollout]:
    """Return consecutive rollouts: episodes span several of them, and may end with the last step.

    Some steps are both terminated and truncated, some episodes have a single step, and some values are outliers.
    """
    rng = np.random.default_rng(seed)
    total = count * steps
    obs = rng.normal([0.5, -2.0, 0.0], [1.0, 4.0, 0.3], (total + 1, num_envs, size)).astype(np.float32)
    shape = (total, num_envs)
    if space.shape:
        actions = rng.normal(0.0, 1.2, (*shape, *space.shape)).astype(np.float32)
        score = actions.sum(-1)
    else:
        actions = rng.integers(space.n, size=shape)
        score = actions.astype(np.float32)
    rewards = (2.0 * score + rng.standard_t(3, shape) + obs[:-1, :, 0]).astype(np.float32)
    terminated, truncated, mask = np.zeros(shape, bool), np.zeros(shape, bool), np.ones(shape, bool)
    for t in range(total):
        if t:
            mask[t] = ~(terminated[t - 1] | truncated[t - 1])
        end, kind = rng.random(num_envs) < ends, rng.integers(5, size=num_envs)
        if t % steps == steps - 1:
            end[:2], kind[:2] = True, [0, 2]  # a termination and a truncation
        terminated[t] = end & mask[t] & np.isin(kind, [0, 1, 4])
        truncated[t] = end & mask[t] & np.isin(kind, [2, 3, 4])
    rewards[~mask] = 0.0
    slices = [slice(k * steps, (k + 1) * steps) for k in range(count)]
    return [
        Rollout(
            obs[part.start : part.stop + 1],
            actions[part],
            rewards[part],
            terminated[part],
            truncated[part],
            mask[part],
            [],
        )
        for part in slices
    ]
