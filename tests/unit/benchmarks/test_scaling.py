"""The model of scaling."""

import math

import pytest


def network(**changes):
    """Return a model whose iteration of 2,048 steps and 320 minibatches takes a second with one worker."""
    from scaling import Model

    ideal = {"operator": 0.0, "latency": 0.0, "bandwidth": math.inf, "far_latency": 0.0, "far_bandwidth": math.inf}
    compute = {
        "step": 0.68 / 2048,
        "rollout_deviation": 0.0,
        "minibatch": 1e-3,
        "row": 0.0,
        "minibatch_deviation": 0.0,
    }
    return Model(**(compute | ideal | {"cores": 4, "parameters": 10_000} | changes))


def test_scaling_is_ideal_without_communication_and_waiting():
    assert network().speed(1) == pytest.approx(2048)
    assert network().speed(512) == pytest.approx(512 * 2048)


def test_each_round_of_an_all_reduce_costs_a_message_within_or_between_nodes():
    model = network(latency=1e-6, bandwidth=4e10, far_latency=1e-5, far_bandwidth=4e9)
    assert model.all_reduce(1) == 0.0
    assert model.all_reduce(4) == pytest.approx(2 * 2e-6)
    assert model.all_reduce(16) == pytest.approx(2 * 2 * 2e-6 + 2 * 2e-5)  # reduce within nodes, exchange, broadcast


def test_waiting_grows_with_workers_and_shrinks_with_longer_rollouts():
    from scaling import expected_largest

    assert expected_largest(1) == 0.0
    assert expected_largest(2) == pytest.approx(0.564, abs=0.03)  # 1 / sqrt(pi)
    model = network(rollout_deviation=0.1)
    waits = [model.iteration(n, 2048, 64) - 1.0 for n in (2, 16, 128)]
    assert waits == sorted(waits)
    assert model.speed(16, 8192) / model.speed(1, 8192) > model.speed(16) / model.speed(1)


def test_fits_recover_the_parameters_of_exact_data():
    from scaling import SIZES, fit_minibatch, fit_network

    assert fit_minibatch({16: 1.16, 64: 1.64, 256: 3.56}) == pytest.approx((1.0, 0.01))
    latency, bandwidth = fit_network([5e-6 + size * 4 / 2e9 for size in SIZES])
    assert (latency, bandwidth) == pytest.approx((5e-6, 2e9), rel=0.01)
