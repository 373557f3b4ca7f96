"""Plots of scores: of methods over all environments, and of the trials of a sweep; samples of methods' lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from milozero.helpers.drawing import own_style  # first: it imports matplotlib without MPLBACKEND

# isort: split
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from milozero.helpers.numbers import format_tick
from milozero.reports.methods import format_value, natural_sort_key
from milozero.reports.scores import Aggregate
from milozero.reports.styles import COLORS, RC_PARAMS, LineStyle, shorten
from milozero.reports.svg import set_method, to_svg, to_svg_parts

MIN_LOG_RATIO = 30  # an axis is logarithmic if the largest value exceeds this many times the smallest


def render_symbol(style: LineStyle, name: str) -> str:
    """Return a sample of a method's line as an SVG symbol, for legends and tables."""
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(0.42, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.plot([0, 0.5, 1], [0, 0, 0], markersize=4.5, markevery=[1], clip_on=False, **vars(style))
        axes.set(xlim=(0, 1), ylim=(-1, 1))
        box, body = to_svg_parts(figure, name)
    return f'<symbol id="{name}" viewBox="{box}">{body}</symbol>'


def render_aggregates(aggregates: Sequence[Aggregate], styles: Mapping[str, LineStyle]) -> str:
    """Return the normalized scores of methods and their intervals as SVG, the best method on top."""
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(6.4, 0.7 + 0.3 * len(aggregates)), layout="constrained")
        axes = figure.subplots()
        for y, aggregate in enumerate(reversed(aggregates)):
            style = styles[aggregate.method.label]
            thick: dict[str, Any] = {"linewidth": 5, "alpha": 0.35, "solid_capstyle": "butt"}
            artists = axes.plot(aggregate.interval, [y, y], color=style.color, **thick)
            artists += axes.plot(aggregate.iqm, y, color=style.color, marker=style.marker or "o", markersize=6)
            for artist in artists:
                set_method(artist, list(styles).index(aggregate.method.label))
        labels = [shorten(aggregate.method.label) for aggregate in reversed(aggregates)]
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlabel="normalized score (IQM and 95 % interval)", ylim=(-0.6, len(labels) - 0.4))
        axes.xaxis.set_major_formatter(FuncFormatter(format_tick))
        axes.grid(axis="x", linewidth=0.6)
        return to_svg(figure, "Interquartile mean of the normalized scores of each method")


def render_sweep(setting: str, values: Sequence[Any], scores: Sequence[float], score: str, env_id: str) -> str:
    """Return the scores of trials over the values of one setting as SVG, with the best trial highlighted.

    `score` names what the scores are.
    """
    with own_style(RC_PARAMS):
        figure = Figure(figsize=(2.9, 2.3), layout="constrained")
        axes = figure.subplots()
        positions = _scale_x_axis(axes, values)
        best = int(np.argmax(scores))
        axes.scatter(positions, scores, s=22, color=COLORS[0], alpha=0.6, linewidth=0)
        axes.scatter([positions[best]], [scores[best]], s=110, marker="*", color=COLORS[1], zorder=3)
        axes.set_xlabel(setting)
        axes.set_ylabel(score)
        axes.margins(y=0.12)
        axes.yaxis.set_major_formatter(FuncFormatter(format_tick))
        axes.grid(linewidth=0.6)
        axes.set_axisbelow(True)
        title = f"{score.capitalize()} on {env_id} over {setting}; the best trial has {format_value(values[best])}"
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
