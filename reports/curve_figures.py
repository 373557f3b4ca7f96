"""Plots of learning curves, for the page and as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from milozero.helpers.drawing import own_style  # first: it imports matplotlib without MPLBACKEND

# isort: split
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from milozero.helpers.numbers import format_tick, time_unit
from milozero.reports.curve_labels import add_labels
from milozero.reports.runs import AXES, TIME
from milozero.reports.scores import Curve
from milozero.reports.statistics import Series
from milozero.reports.styles import GRAY, INK, RC_PARAMS, LineStyle, shorten
from milozero.reports.svg import set_method, to_svg

MAX_SEED_POINTS = 120  # points of a single seed's line
MAX_MARKERS = 8  # of a method's line


def _thin(series: Series, number: int) -> Series:
    """Return at most `number` evenly spaced points of a series, with the first and the last."""
    steps, values = series
    if len(steps) <= number:
        return series
    indices = np.linspace(0, len(steps) - 1, number).round().astype(int)
    return steps[indices], values[indices]


def draw_curves(
    axes: Axes, curves: Sequence[Curve], styles: Mapping[str, LineStyle], ylabel: str, expert: float = math.nan
) -> bool:
    """Draw mean, interval and single seeds of each method, and the expert return unless it is NaN.

    Markers are measurements, not points of the interpolated line. Returns whether the curves are labeled, so that no
    legend is needed.
    """
    unit, xlabel = choose_unit(curves)
    if math.isfinite(expert):
        axes.axhline(expert, color=INK, linewidth=0.9, linestyle=(0, (6, 3)), zorder=4)  # over a cloned policy's line
        place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "xytext": (-2, 2), "ha": "right"}
        axes.annotate("expert", (1, expert), textcoords="offset points", va="bottom", fontsize=8, **place)
    indices = {label: index for index, label in enumerate(styles)}
    for curve in sorted(curves, key=lambda c: styles[c.method.label].color != GRAY):
        draw = draw_level if curve.is_level else draw_curve
        for artist in draw(axes, curve, styles[curve.method.label], unit):
            set_method(artist, indices[curve.method.label])
    for axis, intervals in ((axes.xaxis, 5 if unit > 1 else 4), (axes.yaxis, 8)):  # millions and minutes are short
        axis.set_major_formatter(FuncFormatter(format_tick))
        axis.set_major_locator(MaxNLocator(intervals, steps=[1, 2, 2.5, 5, 10]))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(linewidth=0.6)
    axes.set_axisbelow(True)
    return add_labels(axes, curves, styles, unit)


def choose_unit(curves: Sequence[Curve]) -> tuple[float, str]:
    """Return the unit of the horizontal axis of curves, and its label."""
    axis = curves[0].axis
    ends = [float(steps[-1]) for curve in curves for _, (steps, _) in curve.seeds if not curve.is_level]
    last = max(ends, default=0.0)
    unit, symbol = time_unit(last) if axis == TIME else (1e6, "millions") if last >= 1e6 else (1.0, "")
    return unit, f"{AXES[axis]} ({symbol})" if symbol else AXES[axis]


def draw_curve(axes: Axes, curve: Curve, style: LineStyle, unit: float) -> list[Any]:
    """Draw a curve with positions in units of `unit`; return the artists."""
    artists: list[Any] = []
    for _, series in curve.seeds:
        steps, values = _thin(series, MAX_SEED_POINTS)
        artists += axes.plot(steps / unit, values, color=style.color, linewidth=0.5, alpha=0.32, zorder=2)
    low, high = curve.interval
    steps = curve.steps / unit
    if np.isfinite(low).any():
        artists.append(axes.fill_between(steps, low, high, color=style.color, alpha=0.14, linewidth=0, zorder=1))
    artists += axes.plot(steps, curve.mean, zorder=3, **vars(style) | {"marker": ""})
    if not curve.smoothed:
        points, values = _thin(curve.measured, MAX_MARKERS)
        artists += axes.plot(points / unit, values, markersize=4, zorder=3, **vars(style) | {"linestyle": "none"})
    return artists


def draw_level(axes: Axes, curve: Curve, style: LineStyle, _: float) -> list[Any]:
    """Draw final scores as horizontal lines; return the artists."""
    color, (low, high) = style.color, curve.interval[:, 0]
    scores = [values[0] for _, (_, values) in curve.seeds]
    artists: list[Any] = [axes.axhline(score, color=color, linewidth=0.5, alpha=0.32, zorder=2) for score in scores]
    if math.isfinite(low):
        artists.append(axes.axhspan(low, high, color=color, alpha=0.14, linewidth=0, zorder=1))
    return [*artists, axes.axhline(curve.mean[0], zorder=3, **vars(style) | {"marker": ""})]


def render_curves(
    env_id: str, curves: Sequence[Curve], styles: Mapping[str, LineStyle], ylabel: str, expert: float = math.nan
) -> tuple[str, bool]:
    """Return the learning curves of one environment as SVG, and whether they are labeled."""
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        is_labeled = draw_curves(figure.subplots(), curves, styles, ylabel, expert)
        return to_svg(figure, f"{ylabel.capitalize()} over {AXES[curves[0].axis]} on {env_id}"), is_labeled


def render_png(panels: Sequence[tuple[str, str, Sequence[Curve], float]], styles: Mapping[str, LineStyle]) -> bytes:
    """Return learning curves as one PNG, with a legend unless the curves are labeled.

    Each panel is (environment, label of the vertical axis, curves, expert return or NaN).
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(max(4.6 * columns, 6), 3.4 * rows + 0.4), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        drawn: set[str] = set()
        for axes, (env_id, ylabel, curves, expert) in zip(grid, panels, strict=False):
            if not draw_curves(axes, curves, styles, ylabel, expert):
                drawn |= {curve.method.label for curve in curves}
            axes.set_title(env_id)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        _add_legend(figure, {label: s for label, s in styles.items() if label in drawn and s.color != GRAY})
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def _add_legend(figure: Figure, styles: Mapping[str, LineStyle]) -> None:
    if not styles:
        return
    handles = [Line2D([], [], markersize=4, **vars(style)) for style in styles.values()]
    labels = [shorten(label) for label in styles]
    label_width = 0.6 + 0.075 * max(map(len, labels))  # inches
    columns = max(1, int(figure.get_figwidth() / label_width))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
