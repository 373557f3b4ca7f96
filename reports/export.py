"""What the page of a report shows as CSV or JSON, to be plotted elsewhere."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.reports import records
from milozero.reports.records import Record
from milozero.reports.runs import METRICS
from milozero.reports.scores import Study


@dataclass(frozen=True)
class ExportTable:
    """A table of the export: the meaning of each column, in Markdown, and the records of a study."""

    meaning: str
    columns: Mapping[str, str]
    make: Callable[[Study], Iterator[Record]]


ENV_ID, METHOD = "the environment", "label of the method"
METRIC = " or ".join(f"`{name}` ({title})" for name, title in METRICS.items())
IQM = "interquartile mean of the seeds' final scores"
INTERVAL = "of its 95 % bootstrap interval; empty with fewer than 3 seeds"
LOW, HIGH = f"lower bound {INTERVAL}", f"upper bound {INTERVAL}"
TABLES = {
    "runs": ExportTable(
        "One row per run",
        {
            "name": "name of the run",
            "env_id": ENV_ID,
            "algo": "the algorithm",
            "method": METHOD,
            "seed": "its seed",
            "trial": "number of its trial in a sweep",
            "state": "finished, running, pending, stopped, failed, not started or unknown",
            "reason": "why it is in this state",
            "problems": "logs that could not be read",
            "iterations": "iterations so far",
            "steps": "environment steps so far, of all workers",
            "score": f"what its final score is made of: {METRIC}",
            "final": "final score: mean of the last 10 % of these measurements",
            "best": "highest single measurement",
            "expert_return": "mean return of its demonstrations",
            "seconds": "wall-clock time of training",
            "steps_per_second": "`steps` / `seconds`",
            "commit": "commit of the code; `+` if it was edited",
            "host": "the machine",
            "log": "path of its log",
            "command": "the command that started it",
            "changed": "names of the settings that are not at their defaults",
            "settings": "all settings; in CSV, a column each, under the setting's own name",
            "versions": "of packages; in CSV, a column each, such as `torch_version`",
        },
        records.make_runs,
    ),
    "methods": ExportTable(
        "One row per method",
        {
            "method": METHOD,
            "algo": "the algorithm",
            "color": "of its lines on a light page; `#9a9b9c` (gray) for methods without their own",
            "settings": "those in which it differs from others; in CSV, a column each, under the setting's own name",
        },
        records.make_methods,
    ),
    "curves": ExportTable(
        "The learning curves as they are drawn",
        {
            "env_id": ENV_ID,
            "metric": METRIC,
            "axis": "what `x` is: `timesteps`, `seconds` or `iteration`. BC takes no environment steps: over "
            "`timesteps`, beside other methods, it has one row without `x`, with its final score",
            "method": METHOD,
            "seeds": "number of runs in the mean",
            "x": "position on the axis; empty for a horizontal line",
            "mean": "mean over the seeds; of smoothed curves if `metric` is `return_mean`",
            "low": LOW,
            "high": HIGH,
        },
        records.make_curves,
    ),
    "measurements": ExportTable(
        "The raw points: every measurement of every run, not smoothed",
        {
            "env_id": ENV_ID,
            "metric": METRIC,
            "method": METHOD,
            "run": "name of the run",
            "seed": "its seed",
            "timesteps": "environment steps, of all workers",
            "seconds": "wall-clock time of training",
            "iteration": "iterations",
            "value": "the measured return",
        },
        records.make_measurements,
    ),
    "scores": ExportTable(
        "Final scores, one row per method and environment",
        {
            "env_id": ENV_ID,
            "method": METHOD,
            "score": f"what the scores are made of: {METRIC}",
            "seeds": "number of runs that have a score",
            "unfinished": "how many of these are not finished",
            "iqm": IQM,
            "low": LOW,
            "high": HIGH,
            "mean": "mean of the final scores",
            "median": "median of the final scores",
            "best": "highest single measurement of any seed",
            "expert_return": "mean return of the demonstrations",
            "expert_percent": "`iqm` in percent of `expert_return`",
            "shuffled_percent": "the same for the ablation with shuffled demonstrations",
            "none_percent": "the same for the ablation without demonstrations",
        },
        records.make_scores,
    ),
    "aggregates": ExportTable(
        "Scores over all environments, normalized within each; none with a single environment or method",
        {
            "method": METHOD,
            "runs": "number of runs",
            "iqm": "interquartile mean of the normalized scores",
            "low": LOW,
            "high": HIGH,
            "mean": "mean of the normalized scores",
        },
        records.make_aggregates,
    ),
    "trials": ExportTable(
        "Trials of a sweep, best first on each environment",
        {
            "env_id": ENV_ID,
            "trial": "number of the trial",
            "method": METHOD,
            "rank": "1 is the best",
            "score": f"what ranks: {METRIC}",
            "iqm": IQM,
            "seeds": "number of runs that have a score",
            "settings": "the values that it drew; in CSV, a column each, under the setting's own name",
        },
        records.make_trials,
    ),
    "time": ExportTable(
        "Time and speed, one row per method and environment",
        {
            "env_id": ENV_ID,
            "method": METHOD,
            "runs": "number of runs",
            "workers": "numbers of workers, separated by spaces",
            "steps_per_run": "mean environment steps",
            "seconds_per_run": "mean wall-clock time",
            "total_seconds": "sum of the wall-clock times",
            "steps_per_second": "mean over the runs",
        },
        records.make_time,
    ),
}


def export_json(study: Study, name: str) -> bytes:
    """Return all tables as one JSON object, each a list of records; what was not measured is null."""
    content = {"study": name} | {title: list(table.make(study)) for title, table in TABLES.items()}
    return json.dumps(_to_plain(content), allow_nan=False, indent=1).encode() + b"\n"


def _to_plain(value: Any) -> Any:
    """Return a value as JSON can express it."""
    if isinstance(value, Mapping):
        return {key: _to_plain(each) for key, each in value.items()}
    if isinstance(value, list | np.ndarray):
        return [_to_plain(each) for each in value]
    if isinstance(value, float):  # also numpy's
        return float(value) if math.isfinite(value) else None
    return value


def export_csv(study: Study) -> dict[str, bytes]:
    """Return table → CSV of those tables that have rows."""
    exported = {title: _to_csv(table, list(table.make(study))) for title, table in TABLES.items()}
    return {title: content for title, content in exported.items() if content}


def _to_csv(table: ExportTable, records: Sequence[Record]) -> bytes:
    """Return records as CSV, with a row for each value of lists and a column for each name in mappings."""
    rows = [row for record in records for row in _to_rows(record)]
    if not rows:
        return b""
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows({name: _to_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8", errors="replace")


def _to_rows(record: Record) -> Iterator[Record]:
    flat = {name: value for name, value in record.items() if not isinstance(value, Mapping)}
    for nested in (value for value in record.values() if isinstance(value, Mapping)):
        flat |= {name: value for name, value in nested.items() if name not in flat}
    lists = [name for name, value in flat.items() if isinstance(value, np.ndarray)]
    for values in zip(*(flat[name] for name in lists), strict=True) if lists else [()]:
        yield flat | dict(zip(lists, values, strict=True))


def _to_cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)
