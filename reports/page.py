"""Render a report: one self-contained HTML page, or its learning curves as PNG, or its runs as CSV."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from milozero.helpers.errors import UserError, one_line
from milozero.helpers.logging import format_duration, logger, pluralize
from milozero.helpers.progress import with_progress
from milozero.reports import figures, scores, tables, videos
from milozero.reports.figures import GRAY, STYLES, LineStyle
from milozero.reports.methods import get_setting
from milozero.reports.runs import EVALUATION, TRAINING, mean_expert_return
from milozero.reports.scores import Curve, Row, Study

YLABELS = {EVALUATION: "evaluation return", TRAINING: "training return"}
MAX_NOTES = 5  # per panel
STATES = ("finished", "running", "pending", "stopped", "failed", "not started", "unknown")


def choose_styles(study: Study, rows: Sequence[Row]) -> dict[str, LineStyle]:
    """Return label → style; the methods with the best mean normalized scores have their own, the others are gray."""
    means = {
        label: float(np.mean([values.mean() for values in by_env.values()]))
        for label, by_env in scores.normalize_scores(rows).items()
    }
    labels = [method.label for method in study.methods]
    best = set(sorted(labels, key=lambda label: -means.get(label, -np.inf))[: len(STYLES)])
    own = dict(zip([label for label in labels if label in best], STYLES, strict=False))
    return {label: own.get(label, LineStyle(GRAY, "-", "")) for label in labels}


def build_panels(study: Study, column: str, styles: Mapping[str, LineStyle]) -> list[dict[str, Any]]:
    """Return a panel for each environment on which a metric was measured."""
    panels = []
    for env_id in with_progress(study.environments, f"drawing {YLABELS[column]}s"):
        if curves := scores.build_curves(study, env_id, column):
            expert = _expert_return(study, env_id)
            svg = draw(figures.render_curves, env_id, curves, styles, YLABELS[column], expert)
            methods = [curve.method for curve in curves]
            panels.append({"env_id": env_id, "svg": svg, "notes": describe_curves(curves), "methods": methods})
    return panels


def draw(render: Callable[..., str], *args: Any) -> str:
    """Return a figure as HTML, or a note if it cannot be drawn, so that the rest of the page is still rendered."""
    try:
        return render(*args)
    except Exception as error:  # matplotlib raises arbitrary exceptions
        reason = one_line(f"{type(error).__name__}: {error}")
        logger.warning(f"cannot draw a figure: {reason}")
        return f'<p class="note">This figure cannot be drawn: {html.escape(reason)}</p>'


def _expert_return(study: Study, env_id: str) -> float:
    return mean_expert_return([run for run in study.known if run.env_id == env_id])


def describe_curves(curves: Sequence[Curve]) -> list[str]:
    """Return notes on the limits of the means in a panel."""
    notes = []
    few = [curve.method.label for curve in curves if len(curve.seeds) < scores.MIN_SEEDS]
    if few:
        which = "" if len(few) == len(curves) else f": {join_names(few, 2)}"
        notes.append(f"No interval with fewer than {scores.MIN_SEEDS} seeds{which}.")
    for curve in curves:
        label = curve.method.label
        if not len(curve.steps):
            notes.append(f"{label}: no mean, because its seeds share no steps.")
        elif run := curve.shortest:
            notes.append(f"{label}: the mean ends at {curve.steps[-1]:,.0f} steps with {run.name} ({run.state}).")
    return notes if len(notes) <= MAX_NOTES else [*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES} more notes."]


def join_names(names: Sequence[str], limit: int = 5) -> str:
    """Return the first `limit` names, separated by commas, and the number of the others."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def build_sweeps(study: Study) -> list[dict[str, Any]]:
    """Return the table of trials and the plots of each environment of a sweep."""
    trials = scores.find_trials(study)
    sweeps = []
    for env_id in with_progress(study.environments, "drawing sweeps"):
        rows = [row for trial in trials if (row := scores.score_row(study, env_id, trial))]
        if len(rows) > 1:
            methods = [row.method for row in rows]
            iqms = [row.iqm for row in rows]
            plots = [
                draw(figures.render_sweep, name, [get_setting(m.runs[0], name) for m in methods], iqms, env_id)
                for name in scores.find_swept_settings(methods)
            ]
            table = tables.trials_table(study, methods, env_id)
            sweeps.append({"env_id": env_id, "table": table, "plots": plots})
    return sweeps


def summarize_study(study: Study) -> list[tuple[str, str]]:
    """Return the (name, value) pairs in the header of the page."""
    steps = sum(run.steps for run in study.runs if math.isfinite(run.steps))
    seconds = sum(s for run in study.runs if math.isfinite(s := run.last("seconds")))
    commits = Counter(str(run.config.get("git_sha")) for run in study.known if run.config.get("git_sha"))
    return [
        ("runs", f"{len(study.runs):,}"),
        ("environments", f"{len(study.environments):,}"),
        ("methods", f"{len(study.methods):,}"),
        ("environment steps", f"{steps:,.0f}"),
        ("total wall-clock time", format_duration(seconds)),
        ("commit" if len(commits) < 2 else "commits", join_names([name for name, _ in commits.most_common()]) or "–"),
    ]


def render_page(study: Study, name: str, data: Path) -> bytes:
    """Return the HTML page."""
    rows = scores.score_rows(study)
    styles = choose_styles(study, rows)
    aggregates, incomplete = scores.aggregate_scores(study, rows)
    symbols = {method.label: f"method-{i}" for i, method in enumerate(study.methods)}
    all_videos = videos.find_videos(data, study)
    shown_videos = videos.select_videos(all_videos)
    counts = Counter(run.state for run in study.runs)
    content = {
        "name": name,
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "states": [(state, counts[state]) for state in STATES if counts[state]],
        "summary": summarize_study(study),
        "methods": study.methods,
        "symbols": [figures.render_symbol(styles[label], name) for label, name in symbols.items()],
        "symbol": symbols,
        "num_gray": sum(style.color == GRAY for style in styles.values()),
        "evaluation": build_panels(study, EVALUATION, styles),
        "training": build_panels(study, TRAINING, styles),
        "scored_by_training": [e for e in study.environments if study.score_column(e) == TRAINING],
        "scores": tables.scores_table(rows) if rows else None,
        "num_seeds": max((len(row.scores) for row in rows), default=0),
        "min_seeds": scores.MIN_SEEDS,
        "imitation": tables.imitation_table(rows),
        "has_ablations": any(map(tables.get_ablation, study.methods)),
        "aggregates": tables.aggregates_table(aggregates) if aggregates else None,
        "aggregate_plot": draw(figures.render_aggregates, aggregates, styles) if aggregates else "",
        "incomplete": join_names([method.label for method in incomplete]),
        "sweeps": build_sweeps(study),
        "time": tables.time_table(study),
        "runs": tables.runs_table(study),
        "recipes": tables.list_recipes(study),
        "unfinished": tables.unfinished_table(study),
        "videos": shown_videos,
        "num_omitted_videos": len(all_videos) - len(shown_videos),
        "format_number": lambda value: tables.number_cell(value).text,
        "format_time": lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)),
        "pluralize": pluralize,
        "abbreviated": [m for m in study.methods if m.label != m.full_label],
    }
    return render_template(content)


def render_template(content: Mapping[str, Any]) -> bytes:
    """Fill in ``page.html``; its Content-Security-Policy blocks all requests and all other scripts."""
    folder = Path(__file__).parent
    script = (folder / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    inlined = {"style": (folder / "page.css").read_text(), "script": script, "script_hash": digest}
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("page.html")
    return template.render(content, **inlined).strip().encode("utf-8", errors="replace") + b"\n"


def render_png(study: Study, name: str, data: Path) -> bytes:
    """Return the learning curves as PNG: evaluation returns, or training returns if there are none.

    Raises:
        UserError: if there is nothing to plot, or it cannot be drawn.
    """
    styles = choose_styles(study, scores.score_rows(study))
    panels = []
    for env_id in study.environments:
        for column, ylabel in YLABELS.items():
            if curves := scores.build_curves(study, env_id, column):
                panels.append((env_id, ylabel, curves, _expert_return(study, env_id)))
                break
    if not panels:
        raise UserError(f"--study={name}: nothing to plot yet; no run has a measurement of its return")
    try:
        return figures.render_png(panels, styles)
    except Exception as error:  # matplotlib raises arbitrary exceptions
        raise UserError(f"cannot draw the learning curves: {type(error).__name__}: {error}") from None


RENDERERS: dict[str, Callable[[Study, str, Path], bytes]] = {
    "html": render_page,
    "png": render_png,
    "csv": lambda study, name, data: tables.runs_to_csv(study),
}
