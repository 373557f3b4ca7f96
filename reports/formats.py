"""The formats of a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from milozero.helpers.errors import UserError
from milozero.reports import curve_figures, scores
from milozero.reports.export import export_csv, export_json
from milozero.reports.page import choose_styles, expert_return, render_page
from milozero.reports.recipes import find_best_trials
from milozero.reports.runs import METRICS
from milozero.reports.scores import Study


def render_html(study: Study, name: str, data: Path, report: Path) -> dict[str, bytes]:
    """Return the page, and the best trials of a sweep as task files."""
    trials = find_best_trials(study, data, report)
    page = render_page(study, name, data, report)
    return {"html": page} | {trial.suffix: trial.text.encode("utf-8", errors="replace") for trial in trials}


def render_png(study: Study, name: str, data: Path, report: Path) -> dict[str, bytes]:
    """Return the learning curves as PNG: evaluation returns, or training returns if there are none.

    Raises:
        UserError: if there is nothing to plot, or it cannot be drawn.
    """
    styles = choose_styles(study, scores.score_rows(study))
    panels = []
    for env_id in study.environments:
        for column, ylabel in METRICS.items():
            if curves := scores.build_curves(study, env_id, column):
                panels.append((env_id, ylabel, curves, expert_return(study, env_id)))
                break
    if not panels:
        raise UserError(f"--study={name}: nothing to plot yet; no run has a measurement of its return")
    try:
        return {"png": curve_figures.render_png(panels, styles)}
    except Exception as error:  # matplotlib raises arbitrary exceptions
        raise UserError(f"cannot draw the learning curves: {type(error).__name__}: {error}") from None


def render_csv(study: Study, name: str, data: Path, report: Path) -> dict[str, bytes]:
    """Return the runs as CSV, and each other table as a CSV of its own."""
    return {"csv" if table == "runs" else f"{table}.csv": content for table, content in export_csv(study).items()}


def render_json(study: Study, name: str, data: Path, report: Path) -> dict[str, bytes]:
    """Return all tables as JSON."""
    return {"json": export_json(study, name)}


# Format → function of the study, the name in ``--study``, the data folder, and the path of the report without its
# suffix. It returns suffix → content of each file; the first suffix is the format.
RENDERERS: dict[str, Callable[[Study, str, Path, Path], dict[str, bytes]]] = {
    "html": render_html,
    "png": render_png,
    "csv": render_csv,
    "json": render_json,
}
