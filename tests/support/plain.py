"""Networks, moments and steps written out plainly: what references in the tests are made of.

Nothing here is of the code under test but its random streams. Arithmetic is in double precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import distributions, nn

from milozero.agents.rollout import Rollout

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}


class RunningBatchNorm(nn.BatchNorm1d):
    """Torch's own batch normalization in evaluation mode, whose running moments follow whole rollouts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)

    def follow(self, x: torch.Tensor) -> None:
        newest = max(0.1, 1.0 / (int(self.num_batches_tracked) + 1))
        self.running_mean = (1.0 - newest) * self.running_mean + newest * x.mean(0)
        self.running_var = (1.0 - newest) * self.running_var + newest * x.var(0, correction=0)
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
def follow(stack: nn.Sequential, x: torch.Tensor) -> None:
    """Let running moments follow what reaches them, layer after layer."""
    for place, layer in enumerate(stack):
        if isinstance(layer, RunningBatchNorm):
            layer.follow(stack[:place](x))


class PlainPolicy(nn.Module):
    """A policy on `torch.distributions`; its parameters bear the names of the agent's."""

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

    def follow(self, obs: torch.Tensor) -> None:
        follow(self.policy, obs)


class PlainActorCritic(PlainPolicy):
    """A policy and a value function, of other widths; without `value_widths` on the policy's layers."""

    def __init__(self, size, space, widths=(8, 8), value_widths=(7, 6), activation="tanh", **norms) -> None:
        super().__init__(size, space, widths, activation, **norms)
        self.value = hidden_layers(size, value_widths, activation, **norms) if value_widths else None
        self.value_head = nn.Linear((value_widths or widths)[-1], 1)
        self.double()

    def values(self, obs: torch.Tensor) -> torch.Tensor:
        return self.value_head((self.value or self.policy)(obs)).squeeze(-1)

    def follow(self, obs: torch.Tensor) -> None:
        super().follow(obs)
        if self.value is not None:
            follow(self.value, obs)


def copy_parameters(plain: nn.Module, network: nn.Module) -> None:
    """Copy the parameters with which a network begins."""
    theirs = dict(network.named_parameters())
    mine = dict(plain.named_parameters())
    assert set(mine) == set(theirs)
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(theirs[name])


def assert_same_parameters(plain: nn.Module, network: nn.Module, tolerance: float = 1e-5) -> None:
    """Compare all parameters, and the running moments of batch normalization."""
    renamed = {"running_mean": "mean", "running_var": "var", "num_batches_tracked": "count"}
    theirs = network.state_dict()
    for name, mine in plain.state_dict().items():
        stem, _, last = name.rpartition(".")
        other = theirs.pop(f"{stem}.{renamed.get(last, last)}")
        torch.testing.assert_close(
            other.double(), mine.double(), atol=tolerance, rtol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )
    assert not theirs


def assert_same_metrics(mine: Mapping[str, float], theirs: Mapping[str, float]) -> None:
    """Compare the metrics that the reference has."""
    assert mine.keys() <= theirs.keys()
    for name, value in mine.items():
        np.testing.assert_allclose(theirs[name], value, rtol=1e-4, atol=2e-5, err_msg=name)


class PlainMoments:
    """Keeps every sample, and calculates from all of them anew."""

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
    """Observations less their mean over their deviation, clipped."""

    def __init__(self, clip: float, enabled: bool = True) -> None:
        super().__init__()
        self.clip, self.enabled = clip, enabled

    def __call__(self, obs: np.ndarray) -> torch.Tensor:
        seen = torch.tensor(obs, dtype=torch.float64)
        return ((seen - self.mean) / self.std).clamp(-self.clip, self.clip) if self.enabled else seen


def adam(groups: Sequence[tuple[Sequence[nn.Parameter], float]]) -> torch.optim.Adam:
    """Return torch's Adam with a learning rate for each group of parameters, and PPO's epsilon."""
    return torch.optim.Adam([{"params": list(params), "lr": lr, "start": lr} for params, lr in groups], eps=1e-5)


def descend(optimizer: torch.optim.Adam, loss: torch.Tensor, clip_norm: float) -> float:
    """Take one step; return the norm of the gradient before it is clipped."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(params, clip_norm or float("inf"))
    optimizer.step()
    return float(norm)


def minibatches(rngs: Sequence[np.random.Generator], rows: int, size: int) -> Iterator[list[np.ndarray]]:
    """Yield, for each minibatch of an epoch, the rows that each worker brings; a remainder is left out."""
    orders = [rng.permutation(rows) for rng in rngs]
    for k in range(rows // size):
        yield [order[k * size : (k + 1) * size] for order in orders]


def make_rollouts(space, count=3, steps=32, num_envs=4, size=3, seed=0, ends=0.12) -> list[Rollout]:
    """Return rollouts one after another: episodes run on from one to the next, and may end with the last step.

    Some steps both terminate and truncate; some episodes have one step; some numbers are far out.
    """
    rng = np.random.default_rng(seed)
    total = count * steps
    obs = rng.normal([0.5, -2.0, 0.0], [1.0, 4.0, 0.3], (total + 1, num_envs, size)).astype(np.float32)
    cells = (total, num_envs)
    if space.shape:
        actions = rng.normal(0.0, 1.2, (*cells, *space.shape)).astype(np.float32)
        score = actions.sum(-1)
    else:
        actions = rng.integers(space.n, size=cells)
        score = actions.astype(np.float32)
    rewards = (2.0 * score + rng.standard_t(3, cells) + obs[:-1, :, 0]).astype(np.float32)
    terminated, truncated, mask = np.zeros(cells, bool), np.zeros(cells, bool), np.ones(cells, bool)
    for t in range(total):
        if t:
            mask[t] = ~(terminated[t - 1] | truncated[t - 1])
        end, kind = rng.random(num_envs) < ends, rng.integers(5, size=num_envs)
        if t % steps == steps - 1:
            end[:2], kind[:2] = True, [0, 2]  # one of each kind
        terminated[t] = end & mask[t] & np.isin(kind, [0, 1, 4])
        truncated[t] = end & mask[t] & np.isin(kind, [2, 3, 4])
    rewards[~mask] = 0.0
    parts = [slice(k * steps, (k + 1) * steps) for k in range(count)]
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
        for part in parts
    ]
