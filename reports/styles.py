"""Line styles of methods: one color, dash and marker for each method, the same in all plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.reports.methods import Method

# The color-blind-safe Okabe-Ito palette without yellow, which is hard to see on white. The page replaces them with
# its CSS variables --m0 to --m6, which have other values in dark mode.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333344")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = "osD^vPXphd*<>"
MAX_STYLES = len(COLORS) * len(DASHES)  # methods with their own style
GRAY = "#9a9b9c"  # of all other methods; --others in the page's style


@dataclass(frozen=True)
class LineStyle:
    """Style of a method's lines."""

    color: str
    dash: Any
    marker: str


def assign_styles(methods: Sequence[Method], ranks: Mapping[str, float]) -> dict[str, LineStyle]:
    """Return label → style. If there are more methods than styles, the lowest-ranked methods are gray."""
    best = {m.label for m in sorted(methods, key=lambda m: -ranks.get(m.label, -np.inf))[:MAX_STYLES]}
    styles = {m.label: LineStyle(GRAY, "-", "") for m in methods}
    for i, label in enumerate(m.label for m in methods if m.label in best):
        dash = DASHES[i // len(COLORS)]
        styles[label] = LineStyle(COLORS[i % len(COLORS)], dash, MARKERS[i % len(MARKERS)])
    return styles
