"""Generalized advantage estimates against numbers worked by hand."""

import numpy as np

from milozero.agents.ppo_agent import gae


def column(*values):
    return np.array(values, float)[:, None]


def test_truncated_step_bootstraps_and_terminated_step_does_not():
    # Two episodes of two steps, gamma 0.5, lambda 0.5. The first terminates, the second is truncated.
    rewards = column(1, 2, 3, 4)
    values = column(10, 20, 30, 40)
    next_values = column(20, 99, 40, 50)
    terminated = column(0, 1, 0, 0).astype(bool)
    done = column(0, 1, 0, 1).astype(bool)
    advantages = gae(rewards, values, next_values, terminated, done, 0.5, 0.5)
    last = 4 + 0.5 * 50 - 40
    terminal = 2 - 20
    expected = column(1 + 0.5 * 20 - 10 + 0.25 * terminal, terminal, 3 + 0.5 * 40 - 30 + 0.25 * last, last)
    np.testing.assert_allclose(advantages, expected)


def test_trace_ends_at_a_truncation():
    no, done = column(0, 0).astype(bool), column(1, 0).astype(bool)
    advantages = gae(column(1, 1000), column(0, 0), column(5, 0), no, done, 1.0, 1.0)
    np.testing.assert_allclose(advantages, column(6, 1000))


def test_step_that_is_both_terminated_and_truncated_does_not_bootstrap():
    yes = column(1).astype(bool)
    assert gae(column(1), column(0), column(100), yes, yes, 0.9, 0.9) == 1


def test_lambda_1_gives_the_discounted_return_minus_the_value():
    rewards, values, no = column(1, 1, 1), column(5, 6, 7), column(0, 0, 0).astype(bool)
    advantages = gae(rewards, values, column(6, 7, 8), no, no, 0.9, 1.0)
    assert np.isclose(advantages[0, 0], 1 + 0.9 + 0.81 + 0.729 * 8 - 5)
