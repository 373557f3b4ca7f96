"""Draw assets/images/flow_chart.png: what happens between a command and its files, by the code's own names.

    python docs/flow_chart.py

Each name is looked up in the code before anything is drawn, so the chart cannot show what no longer exists.
"""

from __future__ import annotations

import importlib
import operator
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "assets" / "images" / "flow_chart.png"


@dataclass(frozen=True)
class Step:
    """A box: what is called, where it is, and what it does."""

    name: str  # dotted, within its file
    file: str
    does: str
    x: float  # column, left edge
    y: float  # row, from the top
    width: float = 3.0


LEFT, MIDDLE, RIGHT = 0.0, 3.7, 7.4
BEGIN = [
    Step("parse", "experiment/command_line.py", "flags over task file over defaults", LEFT, 0),
    Step("train", "orchestrator.py", "build_run(), then do_iteration() until\nthe budget is used up", MIDDLE, 0),
    Step("build_run", "training/build.py", "everything a run consists of", RIGHT, 0),
    Step("ExperimentInitializer", "experiment/initializer.py", "name, folders, seed, checkpoint", LEFT, 1.35),
    Step("make_vector_env", "environments/__init__.py", "MuJoCo, dm_control, OpenSim, yours", MIDDLE, 1.35),
    Step("make_agent", "evaluation/loading.py", "by its name in AGENTS", RIGHT, 1.35),
]
LOOP = [
    Step(
        "do_iteration", "orchestrator.py", "one rollout on every worker,\nthen the update on all of them", MIDDLE, 3.1
    ),
    Step("rollout_generator", "agents/rollout.py", "next(rollouts): (T, N) steps", LEFT, 4.5),
    Step("PolicyAgent.sample_actions", "agents/policy.py", "observations → actions", LEFT, 5.75),
    Step("VectorEnv.step", "environments/vector.py", "actions → observations, rewards", LEFT, 7.0),
    Step("PPOAgent.update", "agents/ppo_agent.py", "learns from the rollout", MIDDLE, 4.5),
    Step("gae", "agents/ppo_agent.py", "values → advantages", MIDDLE, 5.75),
    Step("Optimizer.run_epoch", "agents/learning/optimizer.py", "shuffled minibatches", MIDDLE, 7.0),
    Step("Optimizer.gradient", "agents/learning/optimizer.py", "with respect to one flat vector", RIGHT, 4.5),
    Step("PPOAgent.loss", "agents/ppo_agent.py", "of (parameters, minibatch)", RIGHT, 5.75),
    Step("MPIComm.sum_", "helpers/comm.py", "one all-reduce over the workers", RIGHT, 7.0),
    Step("Optimizer.apply", "agents/learning/optimizer.py", "clip, Adam: the same on every worker", RIGHT, 8.25),
    Step(
        "ObservationNormalizer.update", "agents/normalizer.py", "moments of this rollout, for the next", MIDDLE, 8.25
    ),
]
END = [
    Step(
        "Training.evaluate", "training/run.py", "every eval_frequency: deterministic\nepisodes; best.pt", LEFT, 10.1
    ),
    Step("Tracker.log", "tracking/tracker.py", "console, progress.csv,\nTensorBoard, Weights & Biases", MIDDLE, 10.1),
    Step(
        "Training.save",
        "training/run.py",
        "every save_frequency: iter_<n>.pt,\nlast.pt, whole or not at all",
        RIGHT,
        10.1,
    ),
]
STEPS = [*BEGIN, *LOOP, *END]
ARROWS = [
    ("parse", "train"),
    ("train", "build_run"),
    ("build_run", "ExperimentInitializer"),
    ("ExperimentInitializer", "make_vector_env"),
    ("make_vector_env", "make_agent"),
    ("make_agent", "do_iteration"),
    ("do_iteration", "rollout_generator"),
    ("rollout_generator", "PolicyAgent.sample_actions"),
    ("PolicyAgent.sample_actions", "VectorEnv.step"),
    ("do_iteration", "PPOAgent.update"),
    ("PPOAgent.update", "gae"),
    ("gae", "Optimizer.run_epoch"),
    ("Optimizer.run_epoch", "Optimizer.gradient"),
    ("Optimizer.gradient", "PPOAgent.loss"),
    ("PPOAgent.loss", "MPIComm.sum_"),
    ("MPIComm.sum_", "Optimizer.apply"),
    ("Optimizer.apply", "ObservationNormalizer.update"),
    ("ObservationNormalizer.update", "Training.evaluate"),
    ("Training.evaluate", "Tracker.log"),
    ("Tracker.log", "Training.save"),
]


def find_in_code(step: Step) -> Any:
    """Return the object that a step names.

    Raises:
        AttributeError: if it does not exist.
    """
    module = step.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return operator.attrgetter(step.name)(importlib.import_module(f"milozero.{module}"))


def content() -> str:
    """Return a checksum of the chart's content, which the picture stores."""
    return f"{zlib.crc32(repr((STEPS, ARROWS)).encode()):08x}"


def draw(picture: Path) -> None:
    """Draw the chart."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    height = 0.95
    colors = {"main": "#e8eaf6", "loop": "#e0f2f1", "end": "#fff3e0"}
    figure, axes = pyplot.subplots(figsize=(11, 10.6), dpi=110)
    frames = [
        (-0.45, 2.42, "main.py: once per run", colors["main"]),
        (2.72, 9.33, "each iteration, on every worker", colors["loop"]),
        (9.62, 11.2, "after each iteration", colors["end"]),
    ]
    for top, bottom, title, color in frames:
        box = FancyBboxPatch((-0.3, top), 11.0, bottom - top, boxstyle="round,pad=0.08", color=color, zorder=0)
        axes.add_patch(box)
        axes.text(-0.2, top + 0.14, title, va="center", fontsize=9.5, style="italic", color="#555555")
    for step in STEPS:
        find_in_code(step)
        axes.add_patch(
            FancyBboxPatch((step.x, step.y), step.width, height, boxstyle="round,pad=0.04", fc="white", ec="#3949ab")
        )
        middle = step.x + step.width / 2
        call = step.name if find_in_code(step).__class__ is type else f"{step.name}()"
        size = min(9.5, 240 / len(call))
        axes.text(
            middle, step.y + 0.2, call, ha="center", va="center", fontsize=size, weight="bold", family="monospace"
        )
        axes.text(middle, step.y + 0.42, step.file, ha="center", va="center", fontsize=7.5, color="#3949ab")
        axes.text(middle, step.y + 0.71, step.does, ha="center", va="center", fontsize=7.8, linespacing=1.15)
    by_name = {step.name: step for step in STEPS}
    for start, end in ARROWS:
        a, b = by_name[start], by_name[end]
        if a.x == b.x:  # down a column
            ends = (a.x + a.width / 2, a.y + height + 0.05), (b.x + b.width / 2, b.y - 0.05)
        elif b.x > a.x:  # to the next column, in the same row or up to its top
            ends = (a.x + a.width, a.y + height / 2), (b.x, b.y + height / 2)
        elif a.y == b.y:  # back in a row
            ends = (a.x, a.y + height / 2), (b.x + b.width, b.y + height / 2)
        else:  # back to a row below
            ends = (a.x + a.width / 2, a.y + height), (b.x + b.width - 0.3, b.y)
        style = {"arrowstyle": "-|>", "mutation_scale": 13, "color": "#455a64", "lw": 1.3, "zorder": 3}
        axes.add_patch(FancyArrowPatch(*ends, shrinkA=3, shrinkB=3, **style))
    back = FancyArrowPatch(
        (by_name["VectorEnv.step"].x, 7.5),
        (by_name["PolicyAgent.sample_actions"].x, 6.2),
        connectionstyle="arc3,rad=-0.3",
        arrowstyle="-|>",
        mutation_scale=13,
        color="#455a64",
        lw=1.3,
        ls="--",
    )
    axes.add_patch(back)
    axes.text(0.1, 6.85, "T times", fontsize=8, va="center", color="#455a64")
    save, start = by_name["Training.save"], by_name["do_iteration"]
    path = [
        (save.x + 3.0, save.y + 0.5),
        (10.62, save.y + 0.5),
        (10.62, start.y + 0.5),
        (start.x + 3.05, start.y + 0.5),
    ]
    axes.plot(*zip(*path, strict=True), color="#455a64", lw=1.3, ls="--")
    axes.add_patch(FancyArrowPatch(path[2], path[3], arrowstyle="-|>", mutation_scale=13, color="#455a64", lw=0))
    axes.text(8.6, start.y + 0.4, "the next iteration", fontsize=8, ha="center", color="#455a64")
    axes.set_xlim(-0.6, 10.9)
    axes.set_ylim(11.4, -0.65)
    axes.axis("off")
    figure.savefig(picture, bbox_inches="tight", pad_inches=0.05, metadata={"Description": content()})
    pyplot.close(figure)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    draw(PICTURE)
    print(PICTURE)
