"""Plots of a single run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from milozero.helpers.files import write_atomically
from milozero.helpers.numbers import format_tick
from milozero.tracking.csv import read_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = {"timesteps": "environment steps", "iteration": "iterations"}  # horizontal axis: column → label
TITLE_POINTS = 850.0  # width of the figure, divided by the typical width of a character of size 1
EXPERT = "0.35"  # its color, gray
LINES: dict[str, dict[str, Any]] = {  # column → style
    "return_mean": {"color": "tab:blue", "linewidth": 0.7, "alpha": 0.4, "label": "training"},
    "return_mean_100": {"color": "tab:blue", "linewidth": 1.8, "label": "training, last 100 episodes"},
    "eval_return": {"color": "tab:orange", "linewidth": 1.8, "marker": "o", "markersize": 4, "label": "evaluation"},
}


def plot_learning_curve(
    progress: Path, picture: Path, title: str, expert_return: float | None = None, axis: str = "timesteps"
) -> None:
    """Plot the returns in a ``progress.csv`` over one of `AXES` to a PNG, with the expert return as a line.

    Raises:
        Exception: if the plot cannot be drawn or written; matplotlib raises arbitrary exceptions.
    """
    from milozero.helpers.drawing import own_style  # it imports matplotlib, which takes a while

    columns = read_progress(progress)
    with own_style({}):
        figure = draw_learning_curve(columns, title, expert_return, axis)
        write_atomically(picture, lambda path: figure.savefig(path, format="png", dpi=120))


def draw_learning_curve(
    columns: Mapping[str, np.ndarray], title: str, expert_return: float | None, axis: str
) -> Figure:
    """Return the figure of `plot_learning_curve`, with its legend below the axes."""
    from milozero.helpers.drawing import mpl  # noqa: F401  # first: it imports matplotlib without MPLBACKEND

    # isort: split
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    if expert_return is not None:
        axes.axhline(expert_return, color=EXPERT, linewidth=1.2, linestyle="--", label="expert", zorder=1)
    for name, style in LINES.items():
        values = columns.get(name, np.empty(0))
        seen = np.isfinite(values)
        if seen.any():
            axes.plot(columns[axis][seen], values[seen], **style)
    axes.set(xlabel=AXES[axis], ylabel="episode return")
    axes.set_title(title, fontsize=min(11.0, TITLE_POINTS / max(len(title), 1)))
    for each in (axes.xaxis, axes.yaxis):
        each.set_major_formatter(FuncFormatter(format_tick))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure
