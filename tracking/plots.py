"""Plots of a single run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from milozero.helpers.files import write_atomically
from milozero.tracking.csv import read_progress


def plot_learning_curve(progress: Path, picture: Path, title: str, expert_return: float | None = None) -> None:
    """Plot the returns in a ``progress.csv`` over environment steps to a PNG, with the expert return as a line.

    Raises:
        Exception: if the plot cannot be drawn or written; matplotlib raises arbitrary exceptions.
    """
    from milozero.helpers.drawing import own_style  # first: it imports matplotlib without MPLBACKEND

    # isort: split
    from matplotlib.figure import Figure

    columns = read_progress(progress)
    steps, train, evaluation = columns["timesteps"], columns["return_mean"], columns["eval_return"]
    with own_style({}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        seen = np.isfinite(train)
        axes.plot(
            steps[seen], train[seen], color="tab:blue", linewidth=1.2, label="training episodes (sampled actions)"
        )
        seen = np.isfinite(evaluation)
        if seen.any():
            axes.plot(steps[seen], evaluation[seen], "o-", color="tab:orange", label="evaluation (deterministic)")
        if expert_return is not None:
            axes.axhline(expert_return, color="tab:green", linestyle="--", label="expert")
        axes.set(xlabel="environment steps", ylabel="episode return", title=title)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", frameon=False)
        write_atomically(picture, lambda path: figure.savefig(path, format="png", dpi=120))
