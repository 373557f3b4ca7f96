"""The reference pages, written from the code: ``python docs/make_reference.py`` updates them."""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from milozero import spawner  # noqa: E402
from milozero.agents import AGENTS, config_class  # noqa: E402
from milozero.experiment.settings import TASKS, config_groups  # noqa: E402
from milozero.helpers.config.params import Param, declared_settings  # noqa: E402
from milozero.reports.export import TABLES  # noqa: E402
from milozero.tracking.metrics import EVALUATION_METRICS, RUN_METRICS, Metric  # noqa: E402

PARAMETERS = """# Parameters

<!-- made by: python docs/make_reference.py -->

Every flag of `main.py` and `spawner.py`, generated from the code. Each one is declared once; `-h`, the checks, task
files, job scripts and this page follow from the declaration.

- Write `--name=value` on the command line and `name: value` in a task file. A switch is `--name` or `--no-name`.
  Numbers may be written as `1e6`.
- The command line overrides the task file, which overrides the defaults.
- A resumed run keeps its values. ↻ marks settings that it may change; any other difference is refused.
"""


def values(kind: Any, declared: Param) -> str:
    """Return the valid values of a setting, in Markdown."""
    if declared.allowed():
        return " ".join(f"`{choice}`" for choice in declared.allowed() or ())
    is_tuple = typing.get_origin(kind) is tuple
    base_type = next((part for part in typing.get_args(kind) if part not in (types.NoneType, ...)), kind)
    name = {bool: "switch", int: "whole number", float: "number", str: "text"}[base_type]
    limits = [
        f"{sign} {limit:,}"
        for sign, limit in (("≥", declared.low), (">", declared.above), ("≤", declared.high))
        if limit is not None
    ]
    return f"{name}{'s' if is_tuple else ''} {', '.join(limits)}".strip()


def format_default(value: Any) -> str:
    """Return a default as written in a task file, in Markdown."""
    if value is None or value in ("", ()):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def text(markdown: str) -> str:
    """Return a help line as Markdown: flags as code, and escaped bars."""
    return re.sub(r"(?<![\w`])(--[a-z_-]+(=[\w.:]+)?)", r"`\1`", markdown.replace("|", "\\|").replace("<", "&lt;"))


def parameter_table(cls: type, without: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return the settings of a config class as a table, except those that `without` has with the same default."""
    rows = []
    for name, (kind, default, declared) in declared_settings(cls).items():
        if name in without and without[name][1] == default:
            continue
        mark = " ↻" if declared.mutable_on_resume else ""
        alias = f", `--{declared.alias}`" if declared.alias else ""
        cells = (f"`{name}`{alias}{mark}", format_default(default), values(kind, declared), text(declared.help))
        rows.append(f"| {' | '.join(cells)} |\n")
    return "".join(["| parameter | default | values | what it is |\n| --- | --- | --- | --- |\n", *rows])


def parameters_page() -> str:
    """Return the documentation of all parameters."""
    parts, documented = [PARAMETERS, "# main.py\n"], set()
    for task in ("train", *(task for task in TASKS if task != "train")):
        for title, (field, cls) in config_groups(task, "ppo").items():
            if field in documented:
                continue
            documented.add(field)
            parts += [f"## {title}\n", parameter_table(cls)]
            if field == "agent":
                ppo = declared_settings(cls)
                for algo in (algo for algo in AGENTS if algo != "ppo"):
                    other = config_class(algo)
                    same = [f"`{name}`" for name in ppo if name in declared_settings(other)]
                    missing = [f"`{name}`" for name in ppo if name not in declared_settings(other)]
                    most = f"all but {', '.join(missing)}" if missing else "all"
                    those = most if len(missing) < len(same) else ", ".join(same)
                    parts += [f"## --algo={algo}\n", f"From PPO: {those}. Its own, or with a different default:\n"]
                    parts.append(parameter_table(other, ppo))
    parts.append("# spawner.py\n")
    for title, cls in spawner.GROUPS.items():
        parts += [f"## {title}\n", parameter_table(cls)]
    return re.sub(r"^# (main|spawner)", r"## \1", "\n".join(parts).replace("\n## ", "\n### "), flags=re.MULTILINE)


METRICS = """# Metrics

<!-- made by: python docs/make_reference.py -->

A run logs one row per iteration, under the same names in `progress.csv`, Weights & Biases and TensorBoard (which puts
the group before the name: `eval/eval_return`). The terminal shows the most important ones. The step is `timesteps`. A
metric that was not measured in an iteration is an empty cell in `progress.csv` and absent elsewhere. Every number
covers all workers.

"Healthy" is a rule of thumb. Numbers in parentheses are from the README's Hopper command in its first 400,000 steps,
without the very first iterations. Other tasks have different numbers; judge a run by its `eval_return`.
"""


def metric_table(metrics: Mapping[str, Metric]) -> str:
    """Return metrics as a table in Markdown."""
    rows = [("metric", "group", "unit", "what it is", "healthy", "source"), ("---",) * 6]
    rows += [(f"`{name}`", m.group, m.unit, m.meaning, m.healthy, m.source) for name, m in metrics.items()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def metrics_page() -> str:
    """Return the documentation of all metrics."""
    parts = [METRICS, "## Every run\n", metric_table(RUN_METRICS)]
    for algo in AGENTS:
        parts += [f"## `--algo={algo}`\n", metric_table(config_class(algo).METRICS)]
    parts += ["## `--task=eval`\n", "In `results.json`, and in Weights & Biases if `--wandb_project` is given.\n"]
    return "\n".join([*parts, metric_table(EVALUATION_METRICS)])


REPORTS = ROOT / "docs" / "reports.md"
COLUMNS = re.compile("(?<=<!-- made by: python docs/make_reference.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def columns_block() -> str:
    """Return the documentation of the tables in a report's CSV and JSON."""
    parts = []
    for name, table in TABLES.items():
        rows = [(f"`{name}`", f"**{table.meaning}**"), ("---",) * 2]
        rows += [(f"`{column}`", meaning) for column, meaning in table.columns.items()]
        parts.append("".join(f"| {' | '.join(cells)} |\n" for cells in rows))
    return "\n".join(parts)


if __name__ == "__main__":
    REPORTS.write_text(COLUMNS.sub(lambda _: columns_block(), REPORTS.read_text()))
    (ROOT / "docs/parameters.md").write_text(parameters_page())
    (ROOT / "docs/metrics.md").write_text(metrics_page())
