"""How near imitation comes to its expert, and how much of that is only the sign of its reward."""

from __future__ import annotations

import math
from collections.abc import Sequence

from milozero.reports.methods import Method, own_settings, setting_value
from milozero.reports.runs import Run
from milozero.reports.scores import Row, Study
from milozero.reports.tables import Cell, Table, number

ABLATION = "d_ablation"
ABLATIONS = {"shuffled": "with shuffled demonstrations", "none": "with none"}


def expert_return(runs: Sequence[Run]) -> float:
    """Return the mean return of the demonstrations that runs were given; NaN where there were none."""
    known = [run.expert_return for run in runs if math.isfinite(run.expert_return)]
    return sum(known) / len(known) if known else math.nan


def imitation_table(study: Study, rows: Sequence[Row]) -> Table | None:
    """Return final scores as shares of the expert's return, with their controls; None where nobody had an expert."""
    cells = []
    controls = any(find_ablation(row.method) for row in rows)
    for row in rows:
        expert = expert_return(row.method.on(row.env_id))
        if not math.isfinite(expert):
            continue
        demos = setting_value(row.method.runs[0], "num_demos")
        line = [
            Cell(row.env_id),
            Cell(row.method.label, method=row.method.label),
            Cell(str(demos or "all"), float(demos) if demos else math.inf),
            number(expert),
            number(row.iqm),
            share(row.iqm, expert),
        ]
        if controls:
            line += [_of_control(row, kind, rows, expert) for kind in ABLATIONS]
        cells.append(line)
    if not cells:
        return None
    head = ["environment", "method", "demonstrations", "expert's return", "IQM", "of the expert's"]
    return Table("Final scores beside the expert's return", head + list(ABLATIONS.values()) * controls, cells)


def share(score: float, expert: float) -> Cell:
    """Return a cell with a share of the expert's return; a dash where that is not above 0."""
    return number(100.0 * score / expert, ".1f") if expert > 0 else number(math.nan)


def find_ablation(method: Method) -> str:
    """Return the kind of control that a method is; nothing where it is none."""
    kind = str(setting_value(method.runs[0], ABLATION))
    return kind if kind in ABLATIONS else ""


def _of_control(row: Row, kind: str, rows: Sequence[Row], expert: float) -> Cell:
    """Return what a method reaches on the same environment with a control in place of its demonstrations."""
    if find_ablation(row.method):
        return Cell("–", -math.inf)
    wanted = _rest(row.method.on(row.env_id)[0])
    for other in rows:
        of_this = other.env_id == row.env_id and find_ablation(other.method) == kind
        if of_this and _rest(other.method.on(row.env_id)[0]) == wanted:
            return share(other.iqm, expert)
    return Cell("–", -math.inf)


def _rest(run: Run) -> list[object]:
    """Return everything that makes a run what it is but whether it is a control."""
    return [run.algo, *(setting_value(run, name) for name in own_settings(run.algo) if name != ABLATION)]
