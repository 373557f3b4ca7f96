"""Plots of a report: SVGs that follow the page's light or dark colors, and PNGs."""

from __future__ import annotations

import html
import io
import itertools
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.helpers.drawing import own_style  # first: it imports matplotlib without MPLBACKEND

# isort: split
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from milozero.reports.methods import format_value, natural_sort_key
from milozero.reports.scores import Aggregate, Curve
from milozero.reports.statistics import Series

# The color-blind-safe Okabe-Ito palette without yellow, which is hard to see on white. The page replaces them with
# its CSS variables --m0 to --m6, which have other values in dark mode.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333344")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = "osD^vPXphd*<>"
GRAY = "#9a9b9c"  # of methods without their own style; --others in the page's style
INK, RULE = "#1b1c1d", "#d7d8d9"  # text and grid lines
CSS_COLORS = {color: f"var(--m{i})" for i, color in enumerate(COLORS)} | {
    INK: "currentColor",
    RULE: "var(--rule)",
    GRAY: "var(--others)",
}
MAX_SEED_POINTS = 120  # points of a single seed's line
MAX_MARKERS = 8  # of a method's line
MIN_LOG_RATIO = 30  # an axis is logarithmic if the largest value exceeds this many times the smallest
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


def _format_steps(value: float, _: Any = None) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _format_return(value: float, _: Any = None) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _shorten(label: str) -> str:
    return label if len(label) <= MAX_LABEL_CHARS else f"{label[: MAX_LABEL_CHARS - 2]}…"


def _thin(series: Series, number: int) -> Series:
    """Return at most `number` evenly spaced points of a series, with the first and the last."""
    steps, values = series
    if len(steps) <= number:
        return series
    indices = np.linspace(0, len(steps) - 1, number).round().astype(int)
    return steps[indices], values[indices]


def draw_curves(
    axes: Axes, curves: Sequence[Curve], styles: Mapping[str, LineStyle], ylabel: str, expert: float = math.nan
) -> None:
    """Draw mean, interval and single seeds of each method, and the expert return unless it is NaN.

    Markers are measurements, not points of the interpolated line.
    """
    if math.isfinite(expert):
        axes.axhline(expert, color=INK, linewidth=0.9, linestyle=(0, (6, 3)), zorder=2)
        place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "xytext": (-2, 2), "ha": "right"}
        axes.annotate("expert", (1, expert), textcoords="offset points", va="bottom", fontsize=8, **place)
    for curve in sorted(curves, key=lambda c: styles[c.method.label].color != GRAY):
        style = styles[curve.method.label]
        for _, series in curve.seeds:
            axes.plot(*_thin(series, MAX_SEED_POINTS), color=style.color, linewidth=0.5, alpha=0.32, zorder=2)
        low, high = curve.interval
        if np.isfinite(low).any():
            axes.fill_between(curve.steps, low, high, color=style.color, alpha=0.14, linewidth=0, zorder=1)
        axes.plot(curve.steps, curve.mean, zorder=3, **vars(style) | {"marker": ""})
        if not curve.smoothed:
            points = _thin(curve.measured, MAX_MARKERS)
            axes.plot(*points, markersize=4, zorder=3, **vars(style) | {"linestyle": "none"})
    axes.xaxis.set_major_formatter(FuncFormatter(_format_steps))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(_format_return))
    axes.set(xlabel="environment steps", ylabel=ylabel)
    axes.grid(linewidth=0.6)
    axes.set_axisbelow(True)


def render_curves(
    env_id: str, curves: Sequence[Curve], styles: Mapping[str, LineStyle], ylabel: str, expert: float = math.nan
) -> str:
    """Return the learning curves of one environment as SVG."""
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        draw_curves(figure.subplots(), curves, styles, ylabel, expert)
        return to_svg(figure, f"{ylabel.capitalize()} over environment steps on {env_id}")


def render_symbol(style: LineStyle, name: str) -> str:
    """Return a sample of a method's line as an SVG symbol, for legends and tables."""
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(0.42, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.plot([0, 0.5, 1], [0, 0, 0], markersize=4.5, markevery=[1], clip_on=False, **vars(style))
        axes.set(xlim=(0, 1), ylim=(-1, 1))
        box, body = _to_svg_parts(figure, name)
    return f'<symbol id="{name}" viewBox="{box}">{body}</symbol>'


def render_aggregates(aggregates: Sequence[Aggregate], styles: Mapping[str, LineStyle]) -> str:
    """Return the normalized scores of methods and their intervals as SVG, the best method on top."""
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(6.4, 0.7 + 0.3 * len(aggregates)), layout="constrained")
        axes = figure.subplots()
        for y, aggregate in enumerate(reversed(aggregates)):
            style = styles[aggregate.method.label]
            axes.plot(aggregate.interval, [y, y], color=style.color, linewidth=5, alpha=0.35, solid_capstyle="butt")
            axes.plot(aggregate.iqm, y, color=style.color, marker=style.marker or "o", markersize=6)
        labels = [_shorten(aggregate.method.label) for aggregate in reversed(aggregates)]
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlabel="normalized score (IQM and 95 % interval)", ylim=(-0.6, len(labels) - 0.4))
        axes.grid(axis="x", linewidth=0.6)
        return to_svg(figure, "Interquartile mean of the normalized scores of each method")


def render_sweep(setting: str, values: Sequence[Any], scores: Sequence[float], env_id: str) -> str:
    """Return the final scores of trials over the values of one setting as SVG, with the best trial highlighted."""
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(2.9, 2.3), layout="constrained")
        axes = figure.subplots()
        positions = _scale_x_axis(axes, values)
        best = int(np.argmax(scores))
        axes.scatter(positions, scores, s=22, color=COLORS[0], alpha=0.6, linewidth=0)
        axes.scatter([positions[best]], [scores[best]], s=110, marker="*", color=COLORS[1], zorder=3)
        axes.set_xlabel(setting)
        axes.set_ylabel("final score")
        axes.margins(y=0.12)
        axes.yaxis.set_major_formatter(FuncFormatter(_format_return))
        axes.grid(linewidth=0.6)
        axes.set_axisbelow(True)
        title = f"Final score on {env_id} over {setting}; the best trial has {format_value(values[best])}"
        return to_svg(figure, title)


def _scale_x_axis(axes: Axes, values: Sequence[Any]) -> list[float]:
    """Set scale and ticks of the horizontal axis; return the position of each value."""
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        names = sorted(set(map(format_value, values)), key=natural_sort_key)
        axes.set_xticks(range(len(names)), names, rotation=20 * (len("".join(names)) > 16))
        axes.set_xlim(-0.5, len(names) - 0.5)
        return [float(names.index(format_value(value))) for value in values]
    ticks = sorted(set(values))
    if ticks[0] > 0 and ticks[-1] > MIN_LOG_RATIO * ticks[0]:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif min(np.diff(ticks), default=0) >= 0.15 * (ticks[-1] - ticks[0]):  # the labels do not overlap
        axes.set_xticks(ticks, [format_value(value) for value in ticks])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.1)
    return [float(value) for value in values]


def to_svg(figure: Figure, title: str) -> str:
    """Return a figure as SVG to embed in HTML, with `title` for screen readers."""
    box, body = _to_svg_parts(figure, title)
    return f'<svg viewBox="{box}" role="img" aria-label="{html.escape(title)}">{body}</svg>'


def _to_svg_parts(figure: Figure, title: str) -> tuple[str, str]:
    """Return the viewBox and the elements of a figure as SVG.

    Replaces colors with CSS variables and the font with the page's, makes ids unique on the page, and removes the
    figure's own style, which would apply to the whole page.
    """
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    (box,) = re.findall(r'viewBox="([^"]*)"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", body, flags=re.S)
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]*)', body))
    prefix = f"{zlib.crc32((title + body).encode()):08x}"
    body = re.sub(r' id="([^"]*)"', lambda id: f' id="{prefix}-{id[1]}"' if id[1] in used else "", body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', body).replace("url(#", f"url(#{prefix}-")
    body = re.sub(r"font: ([a-z0-9. ]*px) [^;\"]*", r"font: \1 var(--sans)", body)
    for color, variable in CSS_COLORS.items():
        body = body.replace(color, variable)
    return box, re.sub("\n *", "\n", body).strip()


def render_png(panels: Sequence[tuple[str, str, Sequence[Curve], float]], styles: Mapping[str, LineStyle]) -> bytes:
    """Return learning curves as one PNG with a legend.

    Each panel is (environment, label of the vertical axis, curves, expert return or NaN).
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(max(4.6 * columns, 6), 3.4 * rows + 0.4), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (env_id, ylabel, curves, expert) in zip(grid, panels, strict=False):
            draw_curves(axes, curves, styles, ylabel, expert)
            axes.set_title(env_id)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        drawn = {curve.method.label for _, _, curves, _ in panels for curve in curves}
        _add_legend(figure, {label: s for label, s in styles.items() if label in drawn and s.color != GRAY})
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def _add_legend(figure: Figure, styles: Mapping[str, LineStyle]) -> None:
    handles = [Line2D([], [], markersize=4, **vars(style)) for style in styles.values()]
    labels = [_shorten(label) for label in styles]
    label_width = 0.6 + 0.075 * max(map(len, labels), default=1)  # inches
    columns = max(1, int(figure.get_figwidth() / label_width))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
