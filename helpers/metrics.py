"""What a run measures: each metric is told once, beside the code that measures it.

``python -m helpers.metrics > docs/metrics.md`` writes the documentation from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

INTRODUCTION = """# Metrics

<!-- made by: python -m helpers.metrics > docs/metrics.md -->

A run logs a row an iteration, under the same names in `progress.csv`, Weights & Biases and TensorBoard, where the
group stands before the name (`eval/eval_return`); the terminal shows the most important. The step is `timesteps`.
What was not measured in an iteration is an empty cell in `progress.csv` and absent elsewhere. Every number is over
all workers.

"Healthy" is a first look and no law. Numbers in brackets are those of the README's Hopper in its first 400,000 steps,
the very first iterations aside; other tasks have others, and what counts is `eval_return`.
"""


@dataclass(frozen=True)
class Metric:
    """What one number that a run logs is."""

    group: str  # that TensorBoard shows it in
    unit: str
    meaning: str  # its definition; Markdown
    healthy: str  # what to expect, and when to worry
    source: str = ""  # the paper and the equation, where it is from one


def metrics_of(algo: str) -> dict[str, Metric]:
    """Return name → metric of all that a training run with an algorithm logs."""
    import orchestrator
    from agents import agent_class

    return {**orchestrator.METRICS, **agent_class(algo).METRICS}


def table(metrics: Mapping[str, Metric]) -> str:
    """Return metrics as a table in Markdown."""
    rows = [("metric", "group", "unit", "what it is", "healthy", "source"), ("---",) * 6]
    rows += [(f"`{name}`", m.group, m.unit, m.meaning, m.healthy, m.source) for name, m in metrics.items()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def document() -> str:
    """Return the documentation of all metrics."""
    import orchestrator
    from agents import AGENTS, agent_class

    parts = [INTRODUCTION, "## Every run\n", table(orchestrator.METRICS)]
    for algo in AGENTS:
        parts += [f"## `--algo={algo}`\n", table(agent_class(algo).METRICS)]
    parts += ["## `--task=eval`\n", "In `results.json`, and in Weights & Biases where `--wandb_project` is given.\n"]
    return "\n".join([*parts, table(orchestrator.EVALUATION_METRICS)])


if __name__ == "__main__":
    print(document(), end="")
