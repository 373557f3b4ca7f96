"""Pictures of a run."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def read_progress(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a ``progress.csv``; empty cells are NaN."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in (rows[0] if rows else ())}


def learning_curve(progress: Path, picture: Path, title: str, expert: float | None = None) -> None:
    """Draw training and evaluation returns over environment steps, from ``progress.csv`` to a PNG file.

    Args:
        progress: the CSV file.
        picture: where the PNG goes.
        title: of the picture.
        expert: the demonstrations' mean return, drawn as the line to reach.
    """
    from matplotlib.figure import Figure

    columns = read_progress(progress)
    steps, train, evaluation = columns["timesteps"], columns["return_mean"], columns["eval_return"]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    seen = np.isfinite(train)
    axes.plot(steps[seen], train[seen], color="tab:blue", linewidth=1.2, label="training episodes (sampled actions)")
    seen = np.isfinite(evaluation)
    if seen.any():
        axes.plot(steps[seen], evaluation[seen], "o-", color="tab:orange", label="evaluation (deterministic)")
    if expert is not None:
        axes.axhline(expert, color="tab:green", linestyle="--", label="expert")
    axes.set(xlabel="environment steps", ylabel="episode return", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(picture, dpi=120)
