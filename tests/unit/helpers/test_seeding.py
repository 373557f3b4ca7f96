"""The global generators, from which environments may draw."""

import random

import numpy as np
import torch

from milozero.helpers.seeding import preserve_global_rngs, seed_global_rngs


def draw():
    return random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002


def test_equal_seeds_give_equal_numbers():
    draws = []
    for seed in (1, 1, 2, 2**32 - 1):
        seed_global_rngs(seed)
        draws.append(draw())
    assert draws[0] == draws[1]
    assert all(one != other for one, other in zip(draws[1], draws[2], strict=True))


def test_state_is_restored_even_after_an_error():
    seed_global_rngs(0)
    expected = [draw(), draw()]
    seed_global_rngs(0)
    numbers = [draw()]
    try:
        with preserve_global_rngs():
            seed_global_rngs(7)
            draw()
            raise RuntimeError
    except RuntimeError:
        numbers.append(draw())
    assert numbers == expected
