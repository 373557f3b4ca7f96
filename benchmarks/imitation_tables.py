"""The tables and the figure of benchmarks/imitation.py."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # method, env_id, demos, seed, return, steps, seconds
# what README.md calls it → method and number of demonstrations
IN_README = {
    "behavioral cloning, 4 demonstrations": ("bc", 4),
    "GAIL, every 20th step of 1 demonstration": ("gail", 1),
    "AIRL, 16 demonstrations, without cloning": ("airl", 16),
}
NOT_MEASURED = "–"


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


def summary(rows: Sequence[Row], expert: Mapping[str, float]) -> str:
    """Return the table of README.md: the mean percentages of the methods in `IN_README`."""
    lines = [f"| % of the expert's return | {' | '.join(expert)} |", f"|---{'|---' * len(expert)}|"]
    for label, (method, number) in IN_README.items():
        shares = (mean_share(select(rows, env_id, method, number), best) for env_id, best in expert.items())
        lines.append(f"| {label} | {' | '.join(share.partition(' ')[0] for share in shares)} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], expert: Mapping[str, float], methods: Sequence[str], picture: Path) -> None:
    """Plot the percentage of the expert's return against the number of demonstrations."""
    rows = [row for row in rows if row["method"] in methods]
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(expert), figsize=(3.6 * len(expert), 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (env_id, best) in zip(panels[0], expert.items(), strict=True):
        axes.axhline(100, color="black", linewidth=0.9, linestyle=(0, (6, 3)), label="expert")
        for index, method in enumerate(methods):
            if all(row["method"] != method for row in rows):
                continue
            numbers = sorted({r["demos"] for r in rows if (r["env_id"], r["method"]) == (env_id, method)})
            shares = [
                [
                    100 * r["return"] / best
                    for r in rows
                    if (r["env_id"], r["method"], r["demos"]) == (env_id, method, number)
                ]
                for number in numbers
            ]
            positions = [number * 1.04 ** (index - len(methods) / 2) for number in numbers]  # avoid overlaps
            color = f"C{index}"
            label = {"marker": "o", "markersize": 4, "color": color, "label": method}
            axes.plot(positions, [statistics.fmean(each) for each in shares], **label)
            for number, each in zip(positions, shares, strict=True):
                axes.plot([number] * len(each), each, ".", color=color, markersize=3, alpha=0.6)
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 4, 16], ["1", "4", "16"])
        axes.set(title=env_id, xlabel="demonstrations", xlim=(0.8, 20))
        axes.grid(alpha=0.3)
    all_shares = [100.0 * row["return"] / expert[row["env_id"]] for row in rows]
    panels[0][0].set(
        ylabel="% of the expert's return", ylim=(min([*all_shares, 0.0]) * 1.08, max([*all_shares, 100.0]) * 1.08)
    )
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(picture, dpi=150)
