"""Colors, dashes and markers of methods, and the style of all plots of a report."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

# The color-blind-safe Okabe-Ito palette without yellow, which is hard to see on white. The page replaces them with
# its CSS variables --m0 to --m6, which have other values in dark mode.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333344")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = "osD^vPXphd*<>"
GRAY = "#9a9b9c"  # of methods without their own style; --others in the page's style
INK, RULE = "#1b1c1d", "#d7d8d9"  # text and grid lines
MAX_LABEL_CHARS = 48
RC_PARAMS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # fixed, so that the same runs give the same page
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "path.simplify_threshold": 0.5,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.titlecolor": INK,
    "grid.color": RULE,
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class LineStyle:
    """Style of a method's lines, the same in all plots, as arguments of matplotlib's lines."""

    color: str
    linestyle: Any
    marker: str
    linewidth: float = 1.7


STYLES = [
    LineStyle(color, dash, marker)
    for (dash, color), marker in zip(itertools.product(DASHES, COLORS), itertools.cycle(MARKERS), strict=False)
]


def shorten(label: str) -> str:
    """Return a label, cut off if it is too long for a plot."""
    return label if len(label) <= MAX_LABEL_CHARS else f"{label[: MAX_LABEL_CHARS - 2]}…"
