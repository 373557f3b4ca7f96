"""Measure PPO's returns on MuJoCo and DeepMind Control with the recipes in tasks/, beside published results.

    python benchmarks/learning.py [--envs Hopper-v5 ...] [--seeds N] [--jobs 2] [--data_dir data/learning]
    python benchmarks/learning.py --envs Hopper-v5 --seeds 2 --change log_std_init=0 clip_range=0.1

Trains the missing runs, one core per run and one seed of each environment before the next seed, and evaluates each
run's last policy for fifty new episodes; interrupted runs are resumed. Saves benchmarks/results/learning.json
(settings, returns and thinned learning curves) after each run. Finally updates the tables of docs/results.md and
README.md (only the environments in `IN_README`) and the picture. --change overrides settings of the recipe. Runs with
settings other than the recipe's, including runs of an earlier version of the recipe, are listed in the second table.
Several instances may run at the same time. Needs requirements-benchmark.txt.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import importlib.util
import json
import math
import os
import statistics
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainings import ROOT, train_and_evaluate, update_page

sys.path.insert(0, str(ROOT))

from milozero.experiment.command_line import parse
from milozero.experiment.resume import immutable_names
from milozero.helpers.errors import UserError
from milozero.helpers.files import write_bytes

RESULTS = ROOT / "benchmarks" / "results" / "learning.json"
PAGE, README = ROOT / "docs" / "results.md", ROOT / "README.md"
PICTURE = ROOT / "assets" / "images" / "learning.png"
Row = dict[str, Any]  # one run
MUJOCO, DMC = "tasks/train_mujoco_ppo.yaml", "tasks/train_dmc_ppo.yaml"
EPISODES, EVAL_SEED = 50, 1000  # first seed of the evaluation episodes, which training never uses
POINTS = 60  # per learning curve
RESAMPLES = 10_000  # for the bootstrap


@dataclass(frozen=True)
class Task:
    """An environment, its training recipe and its target return."""

    recipe: str
    steps: int
    seeds: int
    goal: float  # target for the mean return over seeds
    published: str  # published PPO return with link and protocol; empty if there is none

    def format_return(self, value: float) -> str:
        """Format a return, with a precision that suits the goal."""
        return format(value, ",.0f" if abs(self.goal) > 100 else ".1f").replace("-", "−")


MILLION = 1_000_000
TIANSHOU = "[Tianshou](https://github.com/thu-ml/tianshou/tree/master/examples/mujoco)"
ZOO = "[rl-zoo3](https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md)"
CLEANRL = "[CleanRL](https://docs.cleanrl.dev/rl-algorithms/rpo/)"
TASKS = {
    "Hopper-v5": Task(MUJOCO, MILLION, 5, 3300, f"2,410 ({ZOO}, v3, one run)"),
    "HalfCheetah-v5": Task(
        MUJOCO, MILLION, 5, 5500, f"5,784 ({TIANSHOU}, v3, maximum over training); 5,819 ({ZOO}, v3, one run)"
    ),
    "Walker2d-v5": Task(MUJOCO, MILLION, 5, 4500, f"3,589 ({TIANSHOU}, v3, maximum)"),
    "Ant-v5": Task(MUJOCO, MILLION, 5, 2800, f"3,258 ({TIANSHOU}, v3, maximum)"),
    "Swimmer-v5": Task(MUJOCO, MILLION, 5, 340, f"282 ({ZOO}, v3, one run)"),
    "Humanoid-v5": Task(MUJOCO, MILLION, 3, 800, f"787 ({TIANSHOU}, v3, maximum)"),
    "Reacher-v5": Task(MUJOCO, MILLION, 5, -4.0, f"−4.1 ({TIANSHOU}, maximum)"),
    "InvertedPendulum-v5": Task(MUJOCO, MILLION, 5, 1000, f"1,000 ({TIANSHOU}, maximum)"),
    "InvertedDoublePendulum-v5": Task(MUJOCO, MILLION, 5, 9300, f"9,231 ({TIANSHOU}, maximum)"),
    "dmc:cheetah-run": Task(DMC, 2 * MILLION, 6, 470, f"472 ({CLEANRL}, 8M steps)"),
    "dmc:walker-walk": Task(DMC, 2 * MILLION, 6, 700, f"306 ({CLEANRL}, 8M steps)"),
    "dmc:finger-spin": Task(DMC, 2 * MILLION, 3, 630, f"630 ({CLEANRL}, 8M steps)"),
}
IN_README = ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "dmc:cheetah-run")


def build_flags(env_id: str, changed: Sequence[str]) -> list[str]:
    """Return the training flags of an environment: its recipe, with changes such as ``clip_range=0.1``."""
    return [f"--config={ROOT / TASKS[env_id].recipe}", f"--env_id={env_id}", *(f"--{change}" for change in changed)]


def recipe(env_id: str, changed: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings and the number of steps that an environment is trained with, including changes.

    Raises:
        UserError: If main.py does not accept a change.
    """
    settings = parse(build_flags(env_id, changed))
    names = sorted(settings.explicit & immutable_names(settings))
    return {name: settings.flat()[name] for name in names} | {"num_timesteps": TASKS[env_id].steps}


@functools.cache
def current_recipe(env_id: str) -> dict[str, Any]:
    """Return the current recipe of an environment, completed with main.py's defaults."""
    return parse([]).flat() | recipe(env_id)


def changes(row: Row) -> tuple[str, ...]:
    """Return the settings of a run that differ from the current recipe, in the format of ``--change``."""
    current, settings = current_recipe(row["env_id"]), parse([]).flat() | row["recipe"]
    result = []
    for name, value in settings.items():
        if isinstance(value, bool):
            flag = name if value else f"no-{name}"
        else:
            flag = f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        result += [flag] if current[name] != value else []
    return tuple(result)


def measure(env_id: str, seed: int, data: Path, changed: Sequence[str] = ()) -> Row:
    """Train a policy, or resume its training, and evaluate it; return its row."""
    settings = recipe(env_id, changed)
    name = f"{env_id.replace(':', '_')}.{hash_values(settings):08x}.seed{seed:02}"  # a new recipe is a new run
    flags = [*build_flags(env_id, changed), f"--num_timesteps={TASKS[env_id].steps}"]
    evaluation, progress = train_and_evaluate(
        name, flags, seed=seed, eval_seed=EVAL_SEED + seed, episodes=EPISODES, data=data
    )
    return {
        "env_id": env_id,
        "seed": seed,
        "return": round(evaluation["return_mean"], 2),
        "std": round(evaluation["return_std"], 2),
        "steps": int(progress[-1]["timesteps"]),
        "seconds": round(float(progress[-1]["seconds"])),
        "recipe": settings,
        "curve": curve(progress),
    }


def hash_values(values: dict[str, Any]) -> int:
    """Return a hash of the values that is stable across processes."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def curve(rows: Sequence[dict[str, str]]) -> list[tuple[int, float]]:
    """Return at most `POINTS` pairs (steps, mean return of training episodes that ended since the previous pair)."""
    points = [(int(row["timesteps"]), float(row["return_mean"])) for row in rows if row["return_mean"]]
    size = max(1, math.ceil(len(points) / POINTS))
    chunks = [points[k : k + size] for k in range(0, len(points), size)]
    return [(chunk[-1][0], round(statistics.fmean(value for _, value in chunk), 2)) for chunk in chunks]


def interval(returns: Sequence[float]) -> tuple[float, float, float]:
    """Return the interquartile mean over seeds, and its 95 % stratified bootstrap interval (Agarwal et al. 2021)."""
    import numpy as np
    from rliable import library, metrics

    warnings.filterwarnings("ignore", category=FutureWarning, module="arch")  # about how rliable seeds arch
    scores = {"ppo": np.array(returns, float)[:, None]}  # (seeds, tasks)
    points, intervals = library.get_interval_estimates(
        scores, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=RESAMPLES, random_state=np.random.RandomState(0)
    )
    low, high = intervals["ppo"][:, 0]
    return float(points["ppo"][0]), float(low), float(high)


def group_by_environment(rows: Sequence[Row]) -> dict[str, tuple[Task, list[Row]]]:
    """Return the rows of each environment that has any, sorted by seed."""
    sorted_rows = sorted(rows, key=lambda row: row["seed"])
    groups = {env_id: [row for row in sorted_rows if row["env_id"] == env_id] for env_id in TASKS}
    return {env_id: (TASKS[env_id], group) for env_id, group in groups.items() if group}


def table(rows: Sequence[Row]) -> str:
    """Return the first table of docs/results.md."""
    lines = [
        "| environment | mean | goal | IQM (95 % interval) | each seed | published PPO | steps | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for env_id, (task, group) in group_by_environment(rows).items():
        returns = [row["return"] for row in group]
        iqm, low, high = (task.format_return(value) for value in interval(returns))
        cells = (
            env_id,
            task.format_return(statistics.fmean(returns)),
            task.format_return(task.goal),
            f"{iqm} ({low} to {high})",
            ", ".join(task.format_return(value) for value in returns),
            task.published,
            f"{task.steps // MILLION}M",
            f"{statistics.fmean(row['seconds'] for row in group) / 60:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """Return the table of README.md, with the environments in `IN_README`."""
    lines = ["| environment | MiloZero | steps | seeds | published PPO |", "|---|---|---|---|---|"]
    for env_id, (task, group) in group_by_environment([row for row in rows if row["env_id"] in IN_README]).items():
        mean = task.format_return(statistics.fmean(row["return"] for row in group))
        lines.append(f"| {env_id} | {mean} | {task.steps // MILLION}M | {len(group)} | {task.published} |")
    return "\n".join(lines) + "\n"


def changed_table(rows: Sequence[Row], with_recipe: Sequence[Row]) -> str:
    """Return the table of runs with other settings, beside the current recipe's mean over the same seeds."""
    lines = ["| environment | changed | mean | each seed | recipe, same seeds |", "|---|---|---|---|---|"]
    for env_id, (task, group) in group_by_environment(rows).items():
        for changed in dict.fromkeys(changes(row) for row in group):
            runs = [row for row in group if changes(row) == changed]
            seeds = [row["seed"] for row in runs]
            same = [row["return"] for row in with_recipe if row["env_id"] == env_id and row["seed"] in seeds]
            cells = (
                env_id,
                ", ".join(f"`{change}`" for change in changed),
                task.format_return(statistics.fmean(row["return"] for row in runs)),
                ", ".join(task.format_return(row["return"]) for row in runs),
                task.format_return(statistics.fmean(same)) if len(same) == len(seeds) else "–",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row]) -> None:
    """Plot the learning curves: each seed thin, their mean thick, the goal dashed."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    plotted = [row for row in rows if row["curve"]]
    env_ids = [env_id for env_id in TASKS if any(row["env_id"] == env_id for row in plotted)]
    if not env_ids:
        return
    columns = min(4, len(env_ids))
    lines = math.ceil(len(env_ids) / columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(3.2 * columns, 2.5 * lines), squeeze=False, layout="constrained"
    )
    for axes in panels.flat[len(env_ids) :]:
        axes.axis("off")
    for axes, env_id in zip(panels.flat, env_ids, strict=False):
        curves = [np.array(row["curve"]).T for row in plotted if row["env_id"] == env_id]
        for steps, returns in curves:
            axes.plot(steps / MILLION, returns, color="C0", linewidth=0.7, alpha=0.4)
        grid = np.linspace(max(c[0][0] for c in curves), min(c[0][-1] for c in curves), POINTS)
        mean = np.mean([np.interp(grid, *c) for c in curves], axis=0)
        axes.plot(grid / MILLION, mean, color="C0", linewidth=1.8)
        axes.axhline(TASKS[env_id].goal, color="black", linewidth=0.8, linestyle=(0, (6, 3)))
        axes.set_title(env_id, fontsize=10)
        axes.grid(alpha=0.3)
    figure.supxlabel("million steps", fontsize=10)
    figure.supylabel("return in training", fontsize=10)
    figure.savefig(PICTURE, dpi=130)


def load_rows() -> list[Row]:
    """Return the saved rows of all known environments."""
    rows: list[Row] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return [row for row in rows if row["env_id"] in TASKS]


def save_row(row: Row) -> None:
    """Save a run's row, keeping rows that other instances have saved in the meantime."""
    folder = os.open(RESULTS.parent, os.O_RDONLY)  # lock the folder: the file itself is replaced atomically
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        rows = [*load_rows(), row]
        rows.sort(key=lambda r: (list(TASKS).index(r["env_id"]), hash_values(r["recipe"]), r["seed"]))
        text = "[\n" + ",\n".join(f" {json.dumps(each)}" for each in rows) + "\n]\n"
        write_bytes(RESULTS, text.encode())
    finally:
        os.close(folder)


def select_runs(envs: Sequence[str], seeds: int) -> Iterator[tuple[str, int]]:
    """Yield the selected runs, one seed of each environment before the next seed."""
    for seed in range(seeds or max(TASKS[env_id].seeds for env_id in envs)):
        for env_id in envs:
            if seed < (seeds or TASKS[env_id].seeds):
                yield env_id, seed


def main() -> int:
    """Train and evaluate the missing runs and save all results. Return 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=0, help="seeds per environment (default: set per environment)")
    parser.add_argument(
        "--change", nargs="+", default=[], metavar="NAME=VALUE", help="settings that override the recipe's"
    )
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data" / "learning")
    options = parser.parse_args()
    if importlib.util.find_spec("rliable") is None:  # otherwise the table fails hours later
        parser.error("rliable is missing: pip install -r requirements-benchmark.txt")
    try:
        for env_id in options.envs:
            recipe(env_id, options.change)
    except UserError as error:
        parser.error(str(error))
    done = {(row["env_id"], row["seed"], hash_values(row["recipe"])) for row in load_rows()}

    def one(env_id: str, seed: int) -> None:
        row = measure(env_id, seed, options.data_dir, options.change)
        save_row(row)
        print(f"{env_id}, seed {seed}: {row['return']} after {row['seconds']} s", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        started = [
            pool.submit(one, env_id, seed)
            for env_id, seed in select_runs(options.envs, options.seeds)
            if (env_id, seed, hash_values(recipe(env_id, options.change))) not in done
        ]
    failed = [problem for each in started if (problem := each.exception())]
    for problem in failed:
        print(f"a run failed: {problem}", flush=True)
    by_recipe = [row for row in load_rows() if not changes(row)]
    others = [row for row in load_rows() if changes(row)]
    for made, given in ((table(by_recipe), ""), (changed_table(others, by_recipe), " --change …")):
        print(made)
        update_page(PAGE, f"learning.py{given}", made)
    update_page(README, "learning.py", summary(by_recipe))
    plot(by_recipe)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
