"""Pictures of a report: SVG that takes the page's colors, light or dark, and PNG."""

from __future__ import annotations

import html
import io
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from milozero.reports.methods import natural, spelled
from milozero.reports.scores import Aggregate, Curve
from milozero.reports.statistics import Series
from milozero.reports.styles import COLOURS, OTHERS, LineStyle

INK, RULE = "#1b1c1d", "#d7d8d9"  # in the page's style currentColor and --rule
VARIABLES = {color: f"var(--m{i})" for i, color in enumerate(COLOURS)} | {
    INK: "currentColor",
    RULE: "var(--rule)",
    OTHERS: "var(--others)",
}
FAINT = 120  # points of one seed's line
LOG_FROM = 30  # ratio of largest to smallest value, from which an axis is logarithmic
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # the same runs, the same page
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


def _steps(value: float, _: Any = None) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _return(value: float, _: Any = None) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _thinned(series: Series) -> Series:
    steps, values = series
    if len(steps) <= FAINT:
        return series
    kept = np.linspace(0, len(steps) - 1, FAINT).round().astype(int)
    return steps[kept], values[kept]


def draw_curves(
    axes: Axes, curves: Sequence[Curve], styles: Mapping[str, LineStyle], ylabel: str, expert: float = math.nan
) -> None:
    """Draw the mean, its interval and the single seeds of each method, and the expert's return."""
    if math.isfinite(expert):
        axes.axhline(expert, color=INK, linewidth=0.9, linestyle=(0, (6, 3)), zorder=2)
        above: dict[str, Any] = {
            "xytext": (-2, 2),
            "textcoords": "offset points",
            "ha": "right",
            "va": "bottom",
            "fontsize": 8,
        }
        axes.annotate("expert", (1, expert), xycoords=axes.get_yaxis_transform(), **above)
    for curve in sorted(curves, key=lambda c: styles[c.method.label].color != OTHERS):
        style = styles[curve.method.label]
        for _, series in curve.seeds:
            axes.plot(*_thinned(series), color=style.color, linewidth=0.5, alpha=0.32, zorder=2)
        if len(curve.seeds) > 1 and len(curve.steps):
            low, high = curve.interval
            axes.fill_between(curve.steps, low, high, color=style.color, alpha=0.14, linewidth=0, zorder=1)
        axes.plot(
            *(curve.steps, curve.mean),
            color=style.color,
            linestyle=style.dash,
            linewidth=1.7,
            marker=style.marker,
            markersize=4,
            markevery=0.16,
            zorder=3,
            label=curve.method.label,
        )
    axes.xaxis.set_major_formatter(FuncFormatter(_steps))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(_return))
    axes.set(xlabel="environment steps", ylabel=ylabel)
    axes.grid(linewidth=0.6)
    axes.set_axisbelow(True)


def curve_panel(
    env_id: str, curves: Sequence[Curve], styles: Mapping[str, LineStyle], ylabel: str, expert: float = math.nan
) -> str:
    """Return the learning curves of one environment as SVG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        draw_curves(figure.subplots(), curves, styles, ylabel, expert)
        return to_svg(figure, f"{ylabel.capitalize()} over environment steps on {env_id}")


def symbol(style: LineStyle, name: str) -> str:
    """Return a piece of a method's line as an SVG symbol, for legends and tables to show by its name."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.42, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        line = {"color": style.color, "linestyle": style.dash, "linewidth": 1.7, "clip_on": False}
        axes.plot([0, 0.5, 1], [0, 0, 0], marker=style.marker, markersize=4.5, markevery=[1], **line)
        axes.set(xlim=(0, 1), ylim=(-1, 1))
        box, body = _drawn(figure, name)
    return f'<symbol id="{name}" viewBox="{box}">{body}</symbol>'


def aggregate_panel(aggregates: Sequence[Aggregate], styles: Mapping[str, LineStyle]) -> str:
    """Return the normalized scores of methods and their intervals as SVG, the best on top."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.7 + 0.3 * len(aggregates)), layout="constrained")
        axes = figure.subplots()
        for place, each in enumerate(reversed(aggregates)):
            style = styles[each.method.label]
            low, high = each.interval
            axes.plot([low, high], [place, place], color=style.color, linewidth=5, alpha=0.35, solid_capstyle="butt")
            axes.plot(each.iqm, place, color=style.color, marker=style.marker or "o", markersize=6)
        labels = [_shortened(each.method.label) for each in reversed(aggregates)]
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
        axes.set(xlabel="normalized score (IQM and 95 % interval)", ylim=(-0.6, len(labels) - 0.4))
        axes.grid(axis="x", linewidth=0.6)
        return to_svg(figure, "Interquartile mean of the normalized scores of each method")


def _shortened(label: str) -> str:
    return label if len(label) <= 48 else f"{label[:46]}…"


def sweep_panel(setting: str, values: Sequence[Any], scores: Sequence[float], env_id: str) -> str:
    """Return the final scores of trials against the value of one drawn setting as SVG, the best highlighted."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9, 2.3), layout="constrained")
        axes = figure.subplots()
        places = _place(axes, values)
        best = int(np.argmax(scores))
        axes.scatter(places, scores, s=22, color=COLOURS[0], alpha=0.6, linewidth=0)
        axes.scatter([places[best]], [scores[best]], s=110, marker="*", color=COLOURS[1], zorder=3)
        axes.set_xlabel(setting, parse_math=False)
        axes.set_ylabel("final score")
        axes.margins(y=0.12)
        axes.yaxis.set_major_formatter(FuncFormatter(_return))
        axes.grid(linewidth=0.6)
        axes.set_axisbelow(True)
        return to_svg(
            figure, f"Final score on {env_id} against {setting}; the best trial has {spelled(values[best])}"
        )


def _place(axes: Axes, values: Sequence[Any]) -> list[float]:
    """Return where values stand on the horizontal axis, and label that."""
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        names = sorted(set(map(spelled, values)), key=natural)
        axes.set_xticks(range(len(names)), names, parse_math=False, rotation=20 * (len("".join(names)) > 16))
        axes.set_xlim(-0.5, len(names) - 0.5)
        return [float(names.index(spelled(value))) for value in values]
    ticks = sorted(set(values))
    if ticks[0] > 0 and ticks[-1] > LOG_FROM * ticks[0]:
        axes.set_xscale("log")
    elif min(np.diff(ticks), default=0) >= 0.15 * (ticks[-1] - ticks[0]):  # far enough apart for their labels
        axes.set_xticks(ticks, [spelled(value) for value in ticks])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.1)
    return [float(value) for value in values]


def to_svg(figure: Figure, title: str) -> str:
    """Return a figure as SVG to stand within HTML, read out as `title`."""
    box, body = _drawn(figure, title)
    return f'<svg viewBox="{box}" role="img" aria-label="{html.escape(title)}">{body}</svg>'


def _drawn(figure: Figure, title: str) -> tuple[str, str]:
    """Return the viewBox of a figure and what is in it.

    Colors become variables of the page's style, the text takes the page's font, and ids become its own. Its own
    style goes: within HTML it would be that of the whole page.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    (box,) = re.findall(r'viewBox="([^"]*)"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", body, flags=re.S)
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]*)', body))
    own = f"{zlib.crc32((title + body).encode()):08x}"  # two pictures in a page must not share ids
    body = re.sub(r' id="([^"]*)"', lambda id: f' id="{own}-{id[1]}"' if id[1] in used else "", body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{own}-', body).replace("url(#", f"url(#{own}-")
    body = re.sub(r"font: ([a-z0-9. ]*px) [^;\"]*", r"font: \1 var(--sans)", body)
    for color, variable in VARIABLES.items():
        body = body.replace(color, variable)
    return box, re.sub("\n *", "\n", body).strip()


def picture(panels: Sequence[tuple[str, str, Sequence[Curve], float]], styles: Mapping[str, LineStyle]) -> bytes:
    """Return learning curves as one PNG, with a legend below.

    Args:
        panels: environment, what its vertical axis shows, its curves, and its expert's return or NaN.
        styles: of the methods.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(4.6 * columns, 6), 3.4 * rows + 0.4), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (env_id, ylabel, curves, expert) in zip(grid, panels, strict=False):
            draw_curves(axes, curves, styles, ylabel, expert)
            axes.set_title(env_id, parse_math=False)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        drawn = {c.method.label for _, _, curves, _ in panels for c in curves}
        named = {label: k for label, k in styles.items() if label in drawn and k.color != OTHERS}
        _legend(figure, named, figure.get_figwidth())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def _legend(figure: Figure, styles: Mapping[str, LineStyle], width: float) -> None:
    handles = [
        Line2D([], [], color=k.color, linestyle=k.dash, marker=k.marker, markersize=4, linewidth=1.7)
        for k in styles.values()
    ]
    labels = [_shortened(label) for label in styles]
    fitting = max(1, int(width / (0.6 + 0.075 * max(map(len, labels), default=1))))
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=fitting, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
