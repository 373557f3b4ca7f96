"""Minibatches, gradients and steps of the optimizer."""

import numpy as np
import torch

from milozero.helpers.comm import Comm
from tests.support.fakes import on_workers


def test_minibatches_are_reshuffled_every_epoch_and_cover_all_rows():
    from milozero.agents.learning.optimizer import PackedBatch

    rng, packed = np.random.default_rng(0), PackedBatch({"row": torch.arange(12)})
    epochs = [packed.minibatches(4, rng).flatten() for _ in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(12)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_unpacked_fields_equal_the_packed_ones():
    from milozero.agents.learning.optimizer import PackedBatch, unpack

    batch = {"obs": torch.randn(6, 3), "actions": torch.arange(6), "weights": torch.rand(6)}
    packed = PackedBatch(batch)
    fields = unpack(packed.matrix, packed.shapes)
    assert fields.keys() == batch.keys()
    for name, field in batch.items():
        torch.testing.assert_close(fields[name], field.float(), rtol=0, atol=0)


def test_gradients_are_averaged_before_clipping():
    """Two workers with gradients 30 and −10 average to 10; clipping them first would average to 0."""
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


def test_steps_equal_torchs_gradient_clipping_and_adam():
    from milozero.agents.learning.optimizer import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, Optimizer, PackedBatch

    mine, torchs = (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)) for _ in "ab")
    torchs.load_state_dict(mine.state_dict())

    def loss(params, batch):
        error = (torch.func.functional_call(mine, params, (batch["x"],)) ** 2).mean() * 5
        return error, {"error": error}

    optimizer = Optimizer(mine, loss, lambda _: 0.05, clip_norm=1.0, comm=Comm(), compile=False)
    adam = torch.optim.Adam(torchs.parameters(), lr=0.05, betas=(ADAM_BETA1, ADAM_BETA2), eps=ADAM_EPSILON)
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
