"""The estimated time left."""

import math

from milozero.training.pace import PACE_ITERATIONS, Pace


def test_first_iteration_which_also_compiles_does_not_count():
    pace = Pace()
    assert math.isnan(pace.time_left(70.0, 0.1))
    assert math.isclose(pace.time_left(72.0, 0.2), 2 / 0.1 * 0.8)
    assert math.isclose(pace.time_left(74.0, 0.3), 2 / 0.1 * 0.7)


def test_only_the_latest_iterations_count():
    pace = Pace()
    for iteration in range(PACE_ITERATIONS):
        pace.time_left(iteration, 0.001 * iteration)  # fast: nothing is learned yet
    seconds, progress = PACE_ITERATIONS - 1.0, 0.001 * (PACE_ITERATIONS - 1)
    for _ in range(PACE_ITERATIONS):
        seconds, progress = seconds + 10.0, progress + 0.001
        left = pace.time_left(seconds, progress)
    assert math.isclose(left, 10.0 / 0.001 * (1.0 - progress))


def test_run_at_its_end_has_no_time_left():
    assert Pace().time_left(5.0, 1.0) == 0.0
    pace = Pace()
    pace.time_left(5.0, 0.5)
    assert pace.time_left(6.0, 1.2) == 0.0
    assert math.isnan(pace.time_left(6.0, 0.5))
