"""The tables and the figure of benchmarks/imitation.py."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # method, env_id, demos, seed, return, steps, seconds, evaluations
ENOUGH = 0.95  # of the expert's return
# what README.md calls it → method and number of demonstrations
IN_README = {
    "behavioral cloning, 4 demonstrations": ("bc", 4),
    "GAIL, every 20th step of 1 demonstration": ("gail", 1),
    "AIRL, 16 demonstrations, without cloning": ("airl", 16),
}
NOT_MEASURED = "–"
MARKERS = "os^Dvp*X"  # one for each method of the figure


def select(rows: Sequence[Row], env_id: str, method: str, number: int) -> list[Row]:
    """Return the runs of a method in the order of their seeds."""
    runs = [row for row in rows if (row["env_id"], row["method"], row["demos"]) == (env_id, method, number)]
    return sorted(runs, key=lambda row: row["seed"])


def mean_share(runs: Sequence[Row], best: float) -> str:
    """Return the mean percentage of the expert's return and, in parentheses, that of each seed."""
    if not runs:
        return NOT_MEASURED
    shares = [100 * row["return"] / best for row in runs]
    return f"{statistics.fmean(shares):.0f} ({', '.join(f'{share:.0f}' for share in shares)})"


def returns(rows: Sequence[Row], expert: Mapping[str, float], numbers: Mapping[str, Sequence[int]]) -> str:
    """Return the means over seeds as a Markdown table; `numbers` maps methods to numbers of demonstrations."""
    lines = [
        "| environment | method | demonstrations | seeds | return | % of the expert's (each seed) | steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for env_id, best in expert.items():
        lines.append(f"| {env_id} | expert | | | {best:,.0f} | 100 | |")
        for method in numbers:
            for number in numbers[method]:
                if runs := select(rows, env_id, method, number):
                    mean = statistics.fmean(row["return"] for row in runs)
                    steps = f"{runs[0]['steps']:,}" if method != "bc" else NOT_MEASURED
                    cells = (env_id, method, number, len(runs), f"{mean:,.0f}", mean_share(runs, best), steps)
                    lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def controls(rows: Sequence[Row], expert: Mapping[str, float], numbers: Mapping[str, Sequence[int]]) -> str:
    """Return the percentages with true and with shuffled demonstrations of Hopper as a Markdown table."""
    env_id, best = next(iter(expert.items()))
    lines = [
        "| method | true demonstrations, % of the expert's (each seed) | shuffled demonstrations |",
        "|---|---|---|",
    ]
    for method, (number, *_) in numbers.items():
        if not method.endswith(", shuffled"):
            cells = (mean_share(select(rows, env_id, name, number), best) for name in (method, f"{method}, shuffled"))
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def reach(row: Row, best: float) -> tuple[int, float] | None:
    """Return the steps and minutes of the first evaluation with `ENOUGH` of the expert's return, if any."""
    return next(
        ((steps, seconds / 60) for steps, seconds, mean in row.get("evaluations", ()) if mean >= ENOUGH * best), None
    )


def speed(rows: Sequence[Row], expert: Mapping[str, float], numbers: Mapping[str, Sequence[int]]) -> str:
    """Return the steps and minutes to 95 % of the expert's return as a Markdown table, for runs that logged them."""
    lines = [
        "| environment | method | demonstrations | steps to 95 % of the expert's return (each seed) "
        "| minutes of one core |",
        "|---|---|---|---|---|",
    ]
    for env_id, best in expert.items():
        for method in numbers:
            for number in numbers[method]:
                runs = [row for row in select(rows, env_id, method, number) if row.get("evaluations")]
                if runs and method != "bc":
                    times = [reach(row, best) for row in runs]
                    steps = ", ".join("never" if each is None else f"{each[0]:,}" for each in times)
                    minutes = ", ".join(NOT_MEASURED if each is None else f"{each[1]:.0f}" for each in times)
                    lines.append(f"| {env_id} | {method} | {number} | {steps} | {minutes} |")
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row], expert: Mapping[str, float]) -> str:
    """Return the table of README.md: the mean percentages of the methods in `IN_README`."""
    lines = [f"| % of the expert's return | {' | '.join(expert)} |", f"|---{'|---' * len(expert)}|"]
    for label, (method, number) in IN_README.items():
        shares = (mean_share(select(rows, env_id, method, number), best) for env_id, best in expert.items())
        lines.append(f"| {label} | {' | '.join(share.partition(' ')[0] for share in shares)} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], expert: Mapping[str, float], methods: Sequence[str], picture: Path) -> None:
    """Plot the percentage of the expert's return against the number of demonstrations."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    drawn = [method for method in methods if any(row["method"] == method for row in rows)]
    # 7 inches are the width of a page, so that 10 points are about 14 pixels there
    figure, panels = plt.subplots(1, len(expert), figsize=(7, 3.4), sharey=True, squeeze=False, layout="constrained")
    shares = [0.0, 100.0]
    for axes, (env_id, best) in zip(panels[0], expert.items(), strict=True):
        axes.axhline(100, color="black", linewidth=0.9, linestyle=(0, (6, 3)), label="expert")
        for index, method in enumerate(drawn):
            positions, means = [], []
            for number in sorted({row["demos"] for row in rows}):
                if runs := select(rows, env_id, method, number):
                    beside = [name for name in drawn if select(rows, env_id, name, number)]
                    position = number * 1.2 ** (beside.index(method) - (len(beside) - 1) / 2)  # avoid overlaps
                    each = [100 * run["return"] / best for run in runs]
                    axes.plot([position] * len(each), each, "_", color=f"C{index}", markersize=8, alpha=0.7)
                    positions, means, shares = [*positions, position], [*means, statistics.fmean(each)], shares + each
            style = {"color": f"C{index}", "marker": MARKERS[index], "markersize": 6, "label": method}
            axes.plot(positions, means, **style)
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 4, 16], ["1", "4", "16"])
        axes.set(title=env_id, xlim=(0.7, 27))
        axes.grid(alpha=0.3)
    panels[0][0].set(ylabel="% of the expert's return", ylim=(min(shares) * 1.08, max(shares) * 1.08))
    panels[0][len(expert) // 2].set_xlabel("demonstrations")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(picture, dpi=200)
