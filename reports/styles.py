"""How methods look: one color, dash and marker each, the same in every picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.reports.methods import Method

# Okabe and Ito's colors, which color-blind readers tell apart, without yellow, which white drowns; in the page's
# style --m0 to --m6, to which dark mode gives other values.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333344")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = "osD^vPXphd*<>"
MAX_STYLES = len(COLOURS) * len(DASHES)  # methods with a look of their own
OTHERS = "#9a9b9c"  # in the page's style --others


@dataclass(frozen=True)
class LineStyle:
    """How a method's lines are drawn, the same in every picture."""

    color: str
    dash: Any
    marker: str


def assign_styles(methods: Sequence[Method], ranks: Mapping[str, float]) -> dict[str, LineStyle]:
    """Return label → look. Of more methods than there are looks, those of the lower ranks are gray."""
    kept = {m.label for m in sorted(methods, key=lambda m: -ranks.get(m.label, -np.inf))[:MAX_STYLES]}
    styles = {m.label: LineStyle(OTHERS, "-", "") for m in methods}
    for i, label in enumerate(m.label for m in methods if m.label in kept):
        dash = DASHES[i // len(COLOURS)]
        styles[label] = LineStyle(COLOURS[i % len(COLOURS)], dash, MARKERS[i % len(MARKERS)])
    return styles
