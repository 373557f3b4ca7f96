"""Scores, confidence intervals and curves against numbers worked by hand."""

import numpy as np
import pytest
from scipy.stats import trim_mean

from milozero.reports import statistics


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], 7),
        ([1, 2, 3], 3),
        ([0] * 19 + [4], 2),  # two of twenty
        (range(1, 30), 28.5),  # two of twenty-nine: at most a tenth
    ],
)
def test_final_score_averages_the_last_tenth_but_at_least_one_value(values, expected):
    assert statistics.final_score(np.array(list(values), float)) == expected


def test_final_score_of_nothing_is_nan():
    assert np.isnan(statistics.final_score(np.empty(0)))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1, 2, 9], 4),  # a quarter of three is none
        ([0, 4, 6, 1000], 5),
        ([5, 1, 100, 3, 2], 10 / 3),  # 2, 3 and 5
        ([0, 1, 2, 3, 4, 5, 6, 700], 3.5),
    ],
)
def test_interquartile_mean_equals_numbers_worked_by_hand(scores, expected):
    assert statistics.interquartile_mean(np.array(scores, float)) == pytest.approx(expected)


def test_interquartile_mean_is_scipys_trimmed_mean():
    scores = np.random.default_rng(0).normal(size=(5, 13))
    np.testing.assert_allclose(statistics.interquartile_mean(scores), trim_mean(scores, 0.25, axis=1))


def test_interval_of_two_seeds_is_that_of_its_four_resamples():
    # 0 and 8 give means 0, 4, 4, 8, a quarter each: 2.5 % of them lie at 0, 97.5 % at 8.
    assert statistics.iqm_interval([np.array([0.0, 8.0])]) == (0, 8)


def test_interval_of_three_seeds_spans_their_range():
    # 1 of 27 resamples has only the lowest score: 3.7 % lies within a 95 % interval, but not within a 90 % one.
    assert statistics.iqm_interval([np.array([0.0, 3.0, 6.0])]) == (0, 6)
    assert statistics.mean_interval(np.array([[0.0], [3.0], [6.0]])).tolist() == [[0], [6]]


def test_interval_is_reproducible_and_has_no_width_if_all_seeds_are_equal():
    scores = [np.array([3.0, 1.0, 4.0, 1.0, 5.0])]
    assert statistics.iqm_interval(scores) == statistics.iqm_interval(scores)
    assert statistics.iqm_interval([np.full(5, 7.0)]) == (7, 7)


def test_each_environment_is_resampled_separately():
    """In one pool, a resample could contain a single environment, and the interval would span 0 to 100."""
    low, high = statistics.iqm_interval([np.zeros(3), np.full(3, 100.0)])
    assert low == high == pytest.approx(50)


def test_one_seed_has_no_interval_but_counts_with_others():
    assert np.isnan(statistics.iqm_interval([np.array([3.0])])).all()
    assert np.isnan(statistics.iqm_interval([np.array([3.0]), np.array([5.0])])).all()
    assert statistics.iqm_interval([np.array([4.0]), np.array([0.0, 8.0])]) == (4 / 3, 20 / 3)


def test_interval_of_a_curve_is_pointwise():
    curves = np.array([[0.0, 1.0, 5.0], [8.0, 1.0, 5.0]])
    assert statistics.mean_interval(curves).tolist() == [[0, 1, 5], [8, 1, 5]]
    assert np.isnan(statistics.mean_interval(curves[:1])).all()


def test_interval_narrows_with_the_square_root_of_the_number_of_seeds():
    rng = np.random.default_rng(1)
    width = [np.ptp(statistics.mean_interval(rng.normal(size=(n, 400))), axis=0).mean() for n in (10, 40)]
    assert width[0] / width[1] == pytest.approx(2, rel=0.1)
    assert width[1] == pytest.approx(2 * 1.96 / 40**0.5, rel=0.05)


def test_curves_are_interpolated_where_all_seeds_have_data():
    first = np.array([0.0, 10.0, 30.0]), np.array([0.0, 10.0, 30.0])
    second = np.array([10.0, 20.0]), np.array([1.0, 3.0])
    steps, values = statistics.interpolate_curves([first, second])
    assert (steps[0], steps[-1], len(steps)) == (10, 20, statistics.NUM_POINTS)
    assert values.shape == (2, statistics.NUM_POINTS)
    np.testing.assert_allclose(values[0], steps)
    np.testing.assert_allclose(values[1], 1 + (steps - 10) / 5)


def test_curves_may_share_one_step_or_none():
    point = np.array([10.0]), np.array([4.0])
    line = np.array([0.0, 20.0]), np.array([0.0, 2.0])
    steps, values = statistics.interpolate_curves([point, line])
    assert (steps.tolist(), values.tolist()) == ([10], [[4], [1]])
    later = np.array([30.0, 40.0]), np.array([0.0, 0.0])
    assert statistics.interpolate_curves([line, later])[1].shape == (2, 0)


def test_normalized_scores_range_from_the_worst_run_to_the_best():
    scores = {"a": np.array([10.0, 20.0]), "b": np.array([30.0, 15.0])}
    normalized = statistics.min_max_normalize(scores)
    assert {name: list(values) for name, values in normalized.items()} == {"a": [0, 0.5], "b": [1, 0.25]}
    assert statistics.min_max_normalize({"a": np.array([3.0, 3.0])})["a"].tolist() == [0.5, 0.5]


def test_smoothing_is_a_centered_mean_that_is_shorter_at_the_ends():
    values = np.array([0.0, 3.0, 6.0, 0.0, 9.0])
    assert statistics.smooth(values, 1).tolist() == values.tolist()
    assert statistics.smooth(values, 3).tolist() == [1.5, 3, 3, 5, 4.5]
    assert statistics.smooth(values, 99).tolist() == [3.6] * 5
    assert statistics.smooth(values[:0], 3).tolist() == []
