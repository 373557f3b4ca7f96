"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from milozero.helpers.errors import UserError
from milozero.helpers.logging import pluralize
from milozero.helpers.progress import with_progress
from milozero.reports import figures, imitation, tables, videos
from milozero.reports.methods import setting_value
from milozero.reports.runs import EVALUATION, TRAINING
from milozero.reports.scores import (
    Curve,
    Row,
    Study,
    aggregate_scores,
    build_curves,
    drawn_settings,
    rank_trials,
    score_row,
    score_rows,
)
from milozero.reports.statistics import min_max_normalized
from milozero.reports.styles import OTHERS, LineStyle, assign_styles

MEASURES = {EVALUATION: "evaluation return", TRAINING: "training return"}
MAX_NOTES = 5  # below a panel
STATES = ("finished", "running", "pending", "stopped", "failed", "not started", "unknown")


@dataclass(frozen=True)
class Panel:
    """The learning curves of one environment."""

    env_id: str
    svg: str
    notes: Sequence[str]


def styles(study: Study, rows: Sequence[Row]) -> dict[str, LineStyle]:
    """Return how each method is drawn; where there are too many, those that rank best stand out."""
    ranks: dict[str, list[float]] = {}
    for env_id in study.environments:
        scores = {row.method.label: row.scores for row in rows if row.env_id == env_id}
        for label, values in (min_max_normalized(scores) if scores else {}).items():
            ranks.setdefault(label, []).append(float(values.mean()))
    return assign_styles(study.methods, {label: sum(r) / len(r) for label, r in ranks.items()})


def panels(study: Study, column: str, styles: Mapping[str, LineStyle]) -> list[Panel]:
    """Return a panel for each environment on which a metric was measured more than once."""
    found = []
    for env_id in with_progress(study.environments, f"drawing {MEASURES[column]}s"):
        if curves := build_curves(study, env_id, column):
            expert = imitation.expert_return([run for run in study.known if run.env_id == env_id])
            svg = figures.curve_panel(env_id, curves, styles, MEASURES[column], expert)
            found.append(Panel(env_id, svg, notes_on(curves)))
    return found


def notes_on(curves: Sequence[Curve]) -> list[str]:
    """Return what a reader must know of the means in a panel."""
    notes = []
    alone = [curve.method.label for curve in curves if len(curve.seeds) == 1]
    if alone:
        whose = "" if len(alone) == len(curves) else f": {join_names(alone, 2)}"
        notes.append(f"One seed{whose}; no interval.")
    for curve in curves:
        if not len(curve.steps):
            notes.append(f"{curve.method.label}: no mean, as its seeds have no steps in common.")
        elif run := curve.shortest:
            notes.append(
                f"{curve.method.label}: mean up to {curve.steps[-1]:,.0f} steps, where {run.name} ends ({run.state})."
            )
    return notes if len(notes) <= MAX_NOTES else [*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES} more like this."]


def join_names(names: Sequence[str], most: int = 5) -> str:
    """Return names with commas between them, the first of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def sweeps(study: Study) -> list[dict[str, Any]]:
    """Return the table of trials and the pictures of each environment of a sweep."""
    trials = rank_trials(study)
    found = []
    for env_id in with_progress(study.environments, "drawing sweeps"):
        rows = [row for trial in trials if (row := score_row(study, env_id, trial))]
        if len(rows) > 1:
            there = [row.method for row in rows]
            scores = [row.iqm for row in rows]
            pictures = [
                figures.sweep_panel(name, [setting_value(method.runs[0], name) for method in there], scores, env_id)
                for name in drawn_settings(there)
            ]
            table = tables.trials_table(study, there, env_id)
            found.append({"env_id": env_id, "table": table, "pictures": pictures})
    return found


def facts(study: Study) -> list[tuple[str, str]]:
    """Return what the head of the page tells: name and value."""
    steps = sum(run.steps for run in study.runs if math.isfinite(run.steps))
    seconds = sum(s for run in study.runs if math.isfinite(s := run.last("seconds")))
    commits = Counter(str(run.config.get("git_sha")) for run in study.known if run.config.get("git_sha"))
    return [
        ("runs", f"{len(study.runs):,}"),
        ("environments", f"{len(study.environments):,}"),
        ("methods", f"{len(study.methods):,}"),
        ("environment steps", f"{steps:,.0f}"),
        ("wall-clock time, all runs", tables.duration(seconds)),
        ("commit" if len(commits) < 2 else "commits", join_names([name for name, _ in commits.most_common()]) or "–"),
    ]


def page(study: Study, name: str, data: Path) -> bytes:
    """Return the whole page."""
    rows = score_rows(study)
    looked = styles(study, rows)
    aggregates, incomplete = aggregate_scores(study, rows)
    symbols = {method.label: f"method-{i}" for i, method in enumerate(study.methods)}
    films = videos.found(data, study)
    shown = videos.chosen(films)
    counts = Counter(run.state for run in study.runs)
    content = {
        "name": name,
        "when": time.strftime("%Y-%m-%d %H:%M %Z"),
        "states": [(state, counts[state]) for state in STATES if counts[state]],
        "facts": facts(study),
        "methods": study.methods,
        "symbols": [figures.symbol(looked[label], name) for label, name in symbols.items()],
        "symbol": symbols,
        "gray": sum(style.color == OTHERS for style in looked.values()),
        "evaluation": panels(study, EVALUATION, looked),
        "training": panels(study, TRAINING, looked),
        "by_training": [e for e in study.environments if study.column(e) == TRAINING],
        "scores": tables.scores_table(rows) if rows else None,
        "imitation": imitation.imitation_table(study, rows),
        "controlled": any(map(imitation.find_ablation, study.methods)),
        "aggregates": tables.aggregates_table(aggregates) if aggregates else None,
        "aggregate_picture": figures.aggregate_panel(aggregates, looked) if aggregates else "",
        "incomplete": join_names([method.label for method in incomplete]),
        "sweeps": sweeps(study),
        "time": tables.time_table(study),
        "open": tables.open_runs_table(study),
        "videos": shown,
        "left_out": len(films) - len(shown),
        "number": lambda value: tables.number(value).text,
        "day": lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)),
        "pluralize": pluralize,
        "long": any(m.label != m.full_label for m in study.methods),
    }
    return render(content)


def render(content: Mapping[str, Any]) -> bytes:
    """Return the page with this content; its policy lets a browser load nothing else, and run no other script."""
    here = Path(__file__).parent
    script = (here / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    inlined = {"style": (here / "page.css").read_text(), "script": script, "script_hash": digest}
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("page.html")
    return template.render(content, **inlined).strip().encode("utf-8", errors="replace") + b"\n"


def picture(study: Study, name: str, data: Path) -> bytes:
    """Return the learning curves alone, as PNG: of evaluations, or of training where there are none.

    Raises:
        UserError: where there is nothing to draw.
    """
    looked = styles(study, score_rows(study))
    drawn = []
    for env_id in study.environments:
        for column, measure in MEASURES.items():
            if curves := build_curves(study, env_id, column):
                expert = imitation.expert_return([run for run in study.known if run.env_id == env_id])
                drawn.append((env_id, measure, curves, expert))
                break
    if not drawn:
        raise UserError(f"--study={name}: there is nothing to draw yet; no run has two measurements")
    return figures.picture(drawn, looked)


def table(study: Study, name: str, data: Path) -> bytes:
    """Return one row for each run, as CSV."""
    return tables.runs_as_csv(study)


RENDERERS = {"html": page, "png": picture, "csv": table}
