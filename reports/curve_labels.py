"""Labels at the ends of curves, where they fit beside the axes without overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from milozero.helpers.drawing import own_style  # noqa: F401  # first: it imports matplotlib without MPLBACKEND

# isort: split
from matplotlib.axes import Axes

from milozero.reports.scores import Curve
from milozero.reports.styles import GRAY, INK, LineStyle
from milozero.reports.svg import set_method

MAX_LABELS, MAX_CHARS = 6, 18  # more or longer ones do not fit beside the axes
LINE_HEIGHT = 0.065  # of a label, as a fraction of the height of the axes
MAX_SHIFT = 2 * LINE_HEIGHT  # of a label from the end of its curve
MIN_END = 0.9  # where all curves must end, as a fraction of the width of the axes


def add_labels(axes: Axes, curves: Sequence[Curve], styles: Mapping[str, LineStyle], unit: float) -> bool:
    """Label each curve at its end, right of the axes; return whether the labels fit, else add none.

    Call it when everything else has been drawn, because it depends on the limits of the axes. `unit` is that of the
    horizontal axis.
    """
    labels = abbreviate([curve.method.label for curve in curves])
    if not 0 < len(curves) <= MAX_LABELS or max(map(len, labels)) > MAX_CHARS:
        return False
    if any(not len(curve.steps) or styles[curve.method.label].color == GRAY for curve in curves):
        return False
    right = axes.get_xlim()[1]
    ends = [(right if curve.is_level else curve.steps[-1] / unit, curve.mean[-1]) for curve in curves]
    fractions = (axes.transData + axes.transAxes.inverted()).transform(ends)
    heights = spread(fractions[:, 1], LINE_HEIGHT)
    if fractions[:, 0].min() < MIN_END or np.abs(heights - fractions[:, 1]).max() > MAX_SHIFT:
        return False
    for curve, label, end, height in zip(curves, labels, fractions, heights, strict=True):
        color = styles[curve.method.label].color
        leader: dict[str, Any] = {"linewidth": 0.8, "transform": axes.transAxes, "clip_on": False}
        artists: list[Any] = axes.plot([end[0], 1.015], [end[1], height], color=color, **leader)
        artists.append(axes.text(1.025, height, label, fontsize=8, color=INK, va="center", transform=axes.transAxes))
        for artist in artists:
            set_method(artist, list(styles).index(curve.method.label))
    return True


def abbreviate(labels: Sequence[str]) -> list[str]:
    """Return labels without the words with which all of them begin, unless a label would be empty."""
    words = [label.split(" ") for label in labels]
    shared = 0
    while len(words) > 1 and min(map(len, words)) > shared + 1 and len({each[shared] for each in words}) == 1:
        shared += 1
    return [" ".join(each[shared:]) for each in words]


def spread(heights: np.ndarray, distance: float) -> np.ndarray:
    """Return the closest heights (n,), by least squares, that have the same order and are `distance` apart.

    This is isotonic regression by pooling adjacent violators (Barlow et al. 1972).
    """
    order = np.argsort(heights, kind="stable")
    offsets = distance * np.arange(len(heights))
    pools: list[tuple[float, int]] = []  # mean and size
    for value in heights[order] - offsets:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    result = np.empty(len(heights))
    result[order] = np.repeat([mean for mean, _ in pools], [size for _, size in pools]) + offsets
    return result
