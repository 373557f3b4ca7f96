"""How methods look: one colour, dash and marker each, the same in every picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.reports.methods import Method

# Okabe and Ito's colours, which colour-blind readers tell apart, without yellow, which white drowns; in the page's
# style --m0 to --m6, to which dark mode gives other values.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333344")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = "osD^vPXphd*<>"
MOST = len(COLOURS) * len(DASHES)  # methods with a look of their own
OTHERS = "#9a9b9c"  # in the page's style --others


@dataclass(frozen=True)
class Look:
    """How a method's lines are drawn, the same in every picture."""

    colour: str
    dash: Any
    marker: str


def looks_of(methods: Sequence[Method], ranks: Mapping[str, float]) -> dict[str, Look]:
    """Return label → look. Of more methods than there are looks, those of the lower ranks are grey."""
    kept = {m.label for m in sorted(methods, key=lambda m: -ranks.get(m.label, -np.inf))[:MOST]}
    looks = {m.label: Look(OTHERS, "-", "") for m in methods}
    for i, label in enumerate(m.label for m in methods if m.label in kept):
        dash = DASHES[i // len(COLOURS)]
        looks[label] = Look(COLOURS[i % len(COLOURS)], dash, MARKERS[i % len(MARKERS)])
    return looks
