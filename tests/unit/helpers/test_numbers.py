"""Numbers as text."""

import pytest

from milozero.helpers import numbers


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, "0"), (-14.74, "−14.74"), (3e5, "300,000"), (0.1 + 0.2, "0.3"), (1e-5, "1e−05")]
)
def test_tick_has_all_digits_of_the_number(value, expected):
    assert numbers.format_tick(value) == expected


def test_axes_and_tables_write_numbers_alike():
    for value in (-250.5, 1500.0, -0.25, 0.0):
        assert numbers.format_tick(value) == numbers.format_number(value)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(119, (1, "s")), (120, (60, "min")), (7199, (60, "min")), (7200, (3600, "h"))]
)
def test_unit_of_time_suits_its_length(seconds, expected):
    assert numbers.time_unit(seconds) == expected
