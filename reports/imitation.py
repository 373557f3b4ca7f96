"""Compare imitation with its expert and with ablations of the demonstrations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from milozero.reports.methods import Method, get_setting, method_settings
from milozero.reports.runs import Run
from milozero.reports.scores import Row
from milozero.reports.tables import Cell, Table, number_cell

ABLATION_SETTING = "d_ablation"
ABLATIONS = {"shuffled": "% shuffled demos", "none": "% without demos"}  # value → column title


def mean_expert_return(runs: Sequence[Run]) -> float:
    """Return the mean return of the runs' demonstrations; NaN if they had none."""
    returns = [run.expert_return for run in runs if math.isfinite(run.expert_return)]
    return sum(returns) / len(returns) if returns else math.nan


def imitation_table(rows: Sequence[Row]) -> Table | None:
    """Return final scores as percentages of the expert return, with ablations; None if no run had an expert."""
    cells = []
    has_ablations = any(get_ablation(row.method) for row in rows)
    for row in rows:
        expert = mean_expert_return(row.method.runs_on(row.env_id))
        if not math.isfinite(expert):
            continue
        demos = get_setting(row.method.runs[0], "num_demos")
        line = [
            Cell(row.env_id),
            Cell(row.method.label, method=row.method.label),
            Cell(str(demos or "all"), float(demos) if demos else math.inf),
            number_cell(expert),
            number_cell(row.iqm),
            percentage_cell(row.iqm, expert),
        ]
        if has_ablations:
            line += [_ablation_cell(row, kind, rows, expert) for kind in ABLATIONS]
        cells.append(line)
    if not cells:
        return None
    head = ["environment", "method", "demonstrations", "expert return", "IQM", "% of expert"]
    return Table("Final scores and expert return", head + list(ABLATIONS.values()) * has_ablations, cells)


def percentage_cell(score: float, expert: float) -> Cell:
    """Return a cell with a percentage of the expert return; a dash if that is not positive."""
    return number_cell(100.0 * score / expert, ".1f") if expert > 0 else number_cell(math.nan)


def get_ablation(method: Method) -> str:
    """Return the kind of ablation of a method; empty if it is none."""
    kind = str(get_setting(method.runs[0], ABLATION_SETTING))
    return kind if kind in ABLATIONS else ""


def _ablation_cell(row: Row, kind: str, rows: Sequence[Row], expert: float) -> Cell:
    """Return the percentage that the ablation of a method achieves on the same environment."""
    if get_ablation(row.method):
        return Cell("–", -math.inf)
    settings = _other_settings(row.method.runs_on(row.env_id)[0])
    ablations = [other for other in rows if other.env_id == row.env_id and get_ablation(other.method) == kind]
    for ablation in ablations:
        if _other_settings(ablation.method.runs_on(row.env_id)[0]) == settings:
            return percentage_cell(ablation.iqm, expert)
    return Cell("–", -math.inf)


def _other_settings(run: Run) -> list[object]:
    """Return the algorithm and settings of a run except the ablation."""
    return [run.algo, *(get_setting(run, name) for name in method_settings(run.algo) if name != ABLATION_SETTING)]
