"""Race: what one core learns in 10 and in 30 minutes, with MiloZero, Stable-Baselines3 and SBX.

    python benchmarks/race.py [--only TD3 SB3-SAC ...] [--envs HalfCheetah-v5 ...] [--jobs 2]
    python benchmarks/race.py --show

Trains the missing runs, one core per run, and evaluates the policy that each has after 10 and after 30 minutes: fifty
episodes with deterministic actions, which training does not use. Minutes count from the start of the process, without
the evaluations; MiloZero's 30 minutes also contain a second start. MiloZero trains with the recipes in tasks/; PPO,
whose learning rates are annealed, trains once for each duration. The other libraries train with the settings that
rl-zoo3 has for the task, which race_peer.py lists. A run that is stopped starts again. Saves
benchmarks/results/race.json after each run, then updates docs/results.md, README.md and the picture. --show only
prints the tables. Needs a quiet machine and requirements-benchmark.txt; SBX gets an environment of its own at its
first run.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainings import ONE_THREAD, ROOT, install, read_progress, run, update_page, write_rows

RESULTS = ROOT / "benchmarks" / "results" / "race.json"
PAGE, README = ROOT / "docs" / "results.md", ROOT / "README.md"
PICTURE = ROOT / "assets" / "images" / "race.png"
MINUTES = (10, 30)
EPISODES, EVAL_SEED = 50, 1000  # first seed of the evaluation episodes
SHORT_S = 60  # length of the run that estimates how many steps PPO takes
POINTS = 60  # per learning curve
ALL_ENVS = ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
PEER_ENVS = ("HalfCheetah-v5", "Ant-v5", "Humanoid-v5")
Row = dict[str, Any]  # one run at one time: contestant, env_id, seed, minutes, return, std, steps, seconds, curve


@dataclass(frozen=True)
class Contestant:
    """An algorithm of a library."""

    library: str  # milozero, sb3 or sbx
    algo: str
    envs: Sequence[str]
    seeds: int


CONTESTANTS = {
    **{algo.upper(): Contestant("milozero", algo, ALL_ENVS, 3) for algo in ("td3", "sac", "ppo")},
    **{f"SB3-{algo.upper()}": Contestant("sb3", algo, PEER_ENVS, 2) for algo in ("td3", "sac", "ppo")},
    "SBX-SAC": Contestant("sbx", "sac", PEER_ENVS, 2),
}
# minutes → environment → wanted mean return of our best algorithm
GOALS: dict[int, dict[str, float]] = {
    10: {"HalfCheetah-v5": 10_500},
    30: {"Hopper-v5": 3_400, "HalfCheetah-v5": 12_500, "Walker2d-v5": 4_800, "Ant-v5": 4_000, "Humanoid-v5": 5_000},
}


def measure(name: str, env_id: str, seed: int, data: Path) -> list[Row]:
    """Train and evaluate one contestant; return a row for each of `MINUTES`."""
    contestant = CONTESTANTS[name]
    if contestant.library == "milozero":
        rows = measure_ours(contestant.algo, env_id, seed, data)
    else:
        rows = measure_peer(contestant, env_id, seed)
    return [{"contestant": name, "env_id": env_id, "seed": seed} | row for row in rows]


def measure_ours(algo: str, env_id: str, seed: int, data: Path) -> list[Row]:
    """Train with main.py, which ``--execution_time`` stops; return the rows."""
    recipe = (f"--config={ROOT}/tasks/train_mujoco_{algo}.yaml", f"--env_id={env_id}", f"--seed={seed}")
    flags = (*recipe, "--eval_frequency=0", "--eval_episodes=0")
    rows, before, for_ever = [], 0, "--num_timesteps=1e9"
    for minutes in MINUTES:
        name = f"{env_id}.{algo}.seed{seed:02}"
        if algo == "ppo":
            name += f".{minutes}min"
            steps = count_steps(name, (*flags, for_ever), 60 * minutes, data)
            train(name, (*flags, f"--num_timesteps={steps}"), 60 * minutes, data)
        elif not before:
            train(name, (*flags, for_ever), 60 * minutes, data)
        else:
            train(name, (*flags, for_ever, "--resume"), 60 * (minutes - before), data)
        progress, before = read_progress(data, name), minutes
        points = [(float(row["seconds"]) / 60, float(row["return_mean"])) for row in progress if row["return_mean"]]
        last = progress[-1]
        rows.append(
            {"minutes": minutes}
            | evaluate(name, seed, data)
            | {"steps": int(last["timesteps"]), "seconds": round(float(last["seconds"])), "curve": thin(points)}
        )
    return rows


def train(name: str, flags: Sequence[str], seconds: int, data: Path) -> None:
    """Train or resume a run for some seconds, counted from the start of its process."""
    if "--resume" not in flags:
        for folder in ("checkpoints", "logs"):
            shutil.rmtree(data / folder / name, ignore_errors=True)
    time = f"--execution_time={seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    run("--task=train", f"--uuid={name}", *flags, time, f"--data_dir={data}", log=data / f"{name}.txt")


def count_steps(name: str, flags: Sequence[str], seconds: int, data: Path) -> int:
    """Return how many steps a run will take in some seconds, estimated with a short run."""
    train(f"{name}.short", flags, SHORT_S, data)
    last = read_progress(data, f"{name}.short")[-1]
    trained = float(last["seconds"])
    return int(int(last["timesteps"]) / trained * (seconds - (SHORT_S - trained)))


def evaluate(name: str, seed: int, data: Path) -> Row:
    """Evaluate the last checkpoint of a run."""
    folder = data / "evaluations" / name / "last"
    shutil.rmtree(folder, ignore_errors=True)
    flags = ("--iter_num=last", f"--num_trajs={EPISODES}", f"--seed={EVAL_SEED + seed}", f"--data_dir={data}")
    run("--task=eval", f"--model_path={data}/checkpoints/{name}", *flags, log=data / f"{name}.txt")
    results = json.loads((folder / "results.json").read_text())
    return {"return": round(results["return_mean"], 1), "std": round(results["return_std"], 1)}


def measure_peer(contestant: Contestant, env_id: str, seed: int) -> list[Row]:
    """Train with another library, in a process of its own; return the rows."""
    python = install("sbx") if contestant.library == "sbx" else sys.executable
    flags = [f"--library={contestant.library}", f"--algo={contestant.algo}", f"--env_id={env_id}", f"--seed={seed}"]
    limits = [
        f"--started={time.time()}",
        f"--episodes={EPISODES}",
        f"--eval_seed={EVAL_SEED + seed}",
        "--minutes",
        *map(str, MINUTES),
    ]
    command = [python, str(ROOT / "benchmarks" / "race_peer.py"), *flags, *limits]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [row | {"curve": thin(row["curve"])} for row in rows]


def take_core(cores: queue.SimpleQueue[int]) -> None:
    """Limit this thread and the processes that it will start to one core: JAX has no other limit on its threads."""
    if cores.qsize():
        os.sched_setaffinity(0, {cores.get()})


def thin(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return at most `POINTS` means of neighboring pairs (minutes, return)."""
    size = max(1, -(-len(points) // POINTS))
    chunks = [points[k : k + size] for k in range(0, len(points), size)]
    return [(round(part[-1][0], 2), round(statistics.fmean(p[1] for p in part), 1)) for part in chunks]


def select(rows: Sequence[Row], name: str, env_id: str, minutes: int) -> list[Row]:
    """Return the rows of a contestant on an environment at a time, by seed."""
    key = (name, env_id, minutes)
    chosen = [row for row in rows if (row["contestant"], row["env_id"], row["minutes"]) == key]
    return sorted(chosen, key=lambda row: row["seed"])


def table(rows: Sequence[Row], minutes: int) -> str:
    """Return the mean returns after some minutes as a Markdown table, the best ones bold; – means not measured."""
    means = {
        (name, env_id): statistics.fmean(row["return"] for row in runs)
        for name in CONTESTANTS
        for env_id in ALL_ENVS
        if (runs := select(rows, name, env_id, minutes))
    }
    best = {env_id: max((mean for (_, e), mean in means.items() if e == env_id), default=None) for env_id in ALL_ENVS}
    lines = [f"| after {minutes} minutes | {' | '.join(ALL_ENVS)} |", "|---" * (len(ALL_ENVS) + 1) + "|"]
    for name in CONTESTANTS:
        cells = []
        for env_id in ALL_ENVS:
            mean = means.get((name, env_id))
            each = ", ".join(f"{row['return']:,.0f}" for row in select(rows, name, env_id, minutes))
            shown = "–" if mean is None else f"{mean:,.0f}" if mean != best[env_id] else f"**{mean:,.0f}**"
            cells.append((f"{shown} ({each})" if each else shown).replace("-", "−"))
        lines.append(f"| {label(name)} | {' | '.join(cells)} |")
    goals = (GOALS[minutes].get(env_id) for env_id in ALL_ENVS)
    lines.append(f"| *goal* | {' | '.join('' if goal is None else f'≥ {goal:,.0f}' for goal in goals)} |")
    return "\n".join(lines) + "\n"


def label(name: str) -> str:
    """Return the name of a contestant for tables and pictures."""
    contestant = CONTESTANTS[name]
    library = {"milozero": "MiloZero", "sb3": "Stable-Baselines3", "sbx": "SBX"}[contestant.library]
    return f"{library} {contestant.algo.upper()}"


def summary(rows: Sequence[Row]) -> str:
    """Return the table of README.md: mean returns after the longest time."""
    lines = [f"| after {MINUTES[-1]} minutes of one core | {' | '.join(ALL_ENVS)} |"]
    lines.append("|---" * (len(ALL_ENVS) + 1) + "|")
    for name in CONTESTANTS:
        runs = [select(rows, name, env_id, MINUTES[-1]) for env_id in ALL_ENVS]
        cells = [f"{statistics.fmean(row['return'] for row in each):,.0f}" if each else "–" for each in runs]
        if any(runs):
            lines.append(f"| {label(name)} | {' | '.join(cells)} |".replace("-", "−"))
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row]) -> None:
    """Plot returns in training over minutes: the mean over seeds of each contestant."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    env_ids = [env_id for env_id in ALL_ENVS if any(row["env_id"] == env_id for row in rows)]
    if not env_ids:
        return
    figure, panels = plt.subplots(1, len(env_ids), figsize=(3.2 * len(env_ids), 3.2), squeeze=False)
    for axes, env_id in zip(panels[0], env_ids, strict=True):
        for index, name in enumerate(CONTESTANTS):
            curves = [np.array(row["curve"]).T for row in select(rows, name, env_id, MINUTES[-1]) if row["curve"]]
            if curves:
                grid = np.linspace(max(c[0][0] for c in curves), min(c[0][-1] for c in curves), POINTS)
                mean = np.mean([np.interp(grid, *c) for c in curves], axis=0)
                style = "-" if CONTESTANTS[name].library == "milozero" else "--"
                axes.plot(grid, mean, style, color=f"C{index}", linewidth=1.6, label=label(name))
        axes.set_title(env_id, fontsize=10)
        axes.set_xlim(0, MINUTES[-1])
        axes.grid(alpha=0.3)
    handles = {text: line for axes in panels[0] for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.supxlabel("minutes of one core", fontsize=10)
    figure.supylabel("return in training", fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 0.9))
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncols=len(handles), fontsize=9, frameon=False)
    figure.savefig(PICTURE, dpi=130)


def load_rows() -> list[Row]:
    """Return the saved rows."""
    rows: list[Row] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return rows


def save_rows(new: Sequence[Row]) -> None:
    """Add rows to the saved ones, also if several instances of this program run."""
    folder = os.open(RESULTS.parent, os.O_RDONLY)  # lock the folder: the file itself is replaced
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        order = {name: index for index, name in enumerate(CONTESTANTS)}
        rows = [*load_rows(), *new]
        rows.sort(key=lambda r: (r["env_id"], order[r["contestant"]], r["seed"], r["minutes"]))
        write_rows(RESULTS, rows)
    finally:
        os.close(folder)


def missing_runs(names: Sequence[str], envs: Sequence[str], rows: Sequence[Row]) -> Iterator[tuple[str, str, int]]:
    """Yield the runs without rows, one seed of each environment and contestant before the next seed."""
    done = {(row["contestant"], row["env_id"], row["seed"]) for row in rows}
    for seed in range(max(CONTESTANTS[name].seeds for name in names)):
        for env_id in envs:
            for name in names:
                contestant = CONTESTANTS[name]
                if seed < contestant.seeds and env_id in contestant.envs and (name, env_id, seed) not in done:
                    yield name, env_id, seed


def main() -> int:
    """Run the missing runs, or only show the results. Return 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--envs", nargs="+", choices=ALL_ENVS, default=ALL_ENVS)
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, one core each")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data" / "race")
    parser.add_argument("--show", action="store_true", help="only print the tables")
    options = parser.parse_args()

    def one(name: str, env_id: str, seed: int) -> None:
        rows = measure(name, env_id, seed, options.data_dir.absolute())
        save_rows(rows)
        returns = ", ".join(f"{row['return']:,.0f}" for row in rows)
        print(f"{env_id}, {label(name)}, seed {seed}: {returns}", flush=True)

    failed: list[BaseException] = []
    if not options.show:
        cases = list(missing_runs(options.only, options.envs, load_rows()))
        os.environ |= ONE_THREAD
        cores: queue.SimpleQueue[int] = queue.SimpleQueue()
        for core in sorted(os.sched_getaffinity(0)):
            cores.put(core)
        with ThreadPoolExecutor(options.jobs, initializer=take_core, initargs=(cores,)) as pool:
            started = [pool.submit(one, *case) for case in cases]
        failed = [error for each in started if (error := each.exception())]
    for error in failed:
        print(f"a run failed: {error}", flush=True)
    rows = load_rows()
    tables = [table(rows, minutes) for minutes in MINUTES]
    print("\n".join(tables))
    if not options.show:
        update_page(PAGE, "race.py", "\n".join(tables))
        update_page(README, "race.py", summary(rows))
        plot(rows)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
