"""Numbers as text, written alike in the tables and on the axes of a report."""

from __future__ import annotations

import math
from typing import Any

MINUS = "−"


def format_number(value: float, form: str = "") -> str:
    """Return a number, by default with about four digits; a dash if it is not finite."""
    if not math.isfinite(value):
        return "–"
    if not form:
        form = ",.0f" if abs(value) >= 1000 else ".1f" if abs(value) >= 100 else ".2f" if abs(value) >= 1 else ".3g"
    return format(value, form).replace("-", MINUS)


def format_tick(value: float, _: Any = None) -> str:
    """Return a number at a tick of an axis, with as many digits as it has; usable as matplotlib's formatter."""
    return f"{value:,.10g}".replace("-", MINUS)


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the unit, in seconds, in which to write durations up to `seconds`, and its symbol."""
    return (1.0, "s") if seconds < 120 else (60.0, "min") if seconds < 7200 else (3600.0, "h")
