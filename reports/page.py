"""Render the page of a report: self-contained HTML."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import numpy as np

from milozero.helpers.errors import one_line
from milozero.helpers.logging import format_duration, logger, pluralize
from milozero.helpers.numbers import format_number
from milozero.helpers.progress import with_progress
from milozero.reports import curve_figures, figures, scores, tables, videos
from milozero.reports.methods import get_setting
from milozero.reports.recipes import find_best_trials, list_recipes
from milozero.reports.runs import AXES, EVALUATION, METRICS, STEPS, TRAINING, mean_expert_return
from milozero.reports.scores import Curve, Row, Study
from milozero.reports.styles import GRAY, STYLES, LineStyle

T = TypeVar("T")
PLOTTED_AXES = tuple(AXES)  # the first one is shown without JavaScript
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


@dataclass(frozen=True)
class Plot:
    """The learning curves of one environment over one axis."""

    axis: str
    svg: str
    is_labeled: bool  # whether the curves are labeled, so that no legend is needed


def build_panels(study: Study, column: str, styles: Mapping[str, LineStyle]) -> list[dict[str, Any]]:
    """Return a panel for each environment on which a metric was measured, with a plot for each axis."""
    panels = []
    for env_id in with_progress(study.environments, f"drawing {METRICS[column]}s"):
        curves = {axis: scores.build_curves(study, env_id, column, axis) for axis in PLOTTED_AXES}
        if over_steps := curves[STEPS]:
            expert = expert_return(study, env_id)
            panel: dict[str, Any] = {"env_id": env_id, "notes": describe_curves(over_steps)}
            panel["methods"] = [curve.method for curve in over_steps]
            panel["plots"] = [
                draw_plot(axis, env_id, curves[axis], styles, METRICS[column], expert) for axis in PLOTTED_AXES
            ]
            panels.append(panel)
    return panels


def draw_plot(axis: str, env_id: str, curves: Sequence[Curve], *args: Any) -> Plot:
    """Return the plot of curves, or a note if there are none over this axis."""
    if not curves:
        return Plot(axis, f'<p class="note">There is no {AXES[axis]} in the logs.</p>', is_labeled=True)
    drawn = draw(curve_figures.render_curves, env_id, curves, *args)
    return Plot(axis, drawn, is_labeled=False) if isinstance(drawn, str) else Plot(axis, *drawn)


def draw(render: Callable[..., T], *args: Any) -> T | str:
    """Return a figure as HTML, or a note if it cannot be drawn, so that the rest of the page is still rendered."""
    try:
        return render(*args)
    except Exception as error:  # matplotlib raises arbitrary exceptions
        reason = one_line(f"{type(error).__name__}: {error}")
        logger.warning(f"cannot draw a figure: {reason}")
        return f'<p class="note">This figure cannot be drawn: {html.escape(reason)}</p>'


def expert_return(study: Study, env_id: str) -> float:
    """Return the mean return of the demonstrations of all runs on an environment; NaN if there were none."""
    return mean_expert_return([run for run in study.known if run.env_id == env_id])


def describe_curves(curves: Sequence[Curve]) -> list[str]:
    """Return notes on the limits of the means in a panel."""
    notes = []
    few = [curve.method.label for curve in curves if len(curve.seeds) < scores.MIN_SEEDS]
    if few:
        which = "" if len(few) == len(curves) else f": {join_names(few, 2)}"
        notes.append(f"No interval with fewer than {scores.MIN_SEEDS} seeds{which}.")
    if curves[0].axis != STEPS:
        notes.append("Over iterations, because behavioral cloning takes no environment steps.")
    for curve in curves:
        label, axis = curve.method.label, "steps" if curve.axis == STEPS else AXES[curve.axis]
        if curve.is_level:
            notes.append(f"{label} takes no environment steps: its line over them is its final score.")
        elif not len(curve.steps):
            notes.append(f"{label}: no mean, because its seeds share no {axis}.")
        elif run := curve.shortest:
            notes.append(f"{label}: the mean ends at {curve.steps[-1]:,.0f} {axis} with {run.name} ({run.state}).")
    return notes if len(notes) <= MAX_NOTES else [*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES} more notes."]


def join_names(names: Sequence[str], limit: int = 5) -> str:
    """Return the first `limit` names, separated by commas, and the number of the others."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def build_sweeps(study: Study, data: Path, report: Path) -> list[dict[str, Any]]:
    """Return the table of trials, the plots and the best trial of each environment of a sweep."""
    best = {trial.env_id: trial for trial in find_best_trials(study, data, report)}
    sweeps = []
    for env_id in with_progress(study.environments, "drawing sweeps"):
        if rows := scores.rank_trials(study, env_id):
            score = f"final {METRICS[study.score_column(env_id)]}"
            methods, iqms = [row.method for row in rows], [row.iqm for row in rows]
            plots = [
                draw(figures.render_sweep, name, [get_setting(m.runs[0], name) for m in methods], iqms, score, env_id)
                for name in scores.find_swept_settings(methods)
            ]
            sweep = {"env_id": env_id, "table": tables.trials_table(rows), "plots": plots, "score": score}
            sweeps.append(sweep | {"best": best.get(env_id)})
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


def render_page(study: Study, name: str, data: Path, report: Path | None = None) -> bytes:
    """Return the HTML page. `report` is its path without suffix, with which the commands that it shows begin."""
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
        "index": {label: i for i, label in enumerate(symbols)},
        "axes": {axis: AXES[axis] for axis in PLOTTED_AXES},
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
        "sweeps": build_sweeps(study, data, report or data / "reports" / name),
        "time": tables.time_table(study),
        "runs": tables.runs_table(study),
        "recipes": list_recipes(study),
        "unfinished": tables.unfinished_table(study),
        "videos": shown_videos,
        "num_omitted_videos": len(all_videos) - len(shown_videos),
        "stem": (report or Path(name)).name,
        "base64": lambda text: base64.b64encode(text.encode("utf-8", errors="replace")).decode(),
        "format_number": format_number,
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
