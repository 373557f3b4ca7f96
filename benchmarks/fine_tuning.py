"""Compare PPO from a cloned policy with PPO from scratch: steps until it exceeds the expert.

    python benchmarks/fine_tuning.py [--seeds 5] [--jobs 2] [--data_dir data/fine_tuning]

For each seed, clones four demonstrations of Hopper and trains PPO with the recipe in tasks/, once from the cloned
policy and once from scratch, for a million steps. Interrupted runs are resumed. Saves
benchmarks/results/fine_tuning.json after each run, then updates the table of docs/imitation.md. The expert's return
is the mean of the four demonstrations; cloning itself needs no environment steps.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trainings import ROOT, train, update_page, write_rows

sys.path.insert(0, str(ROOT))

from milozero.demonstrations import dataset as demos

ENV_ID, NUM_DEMOS = "Hopper-v5", 4
FIRST_SEED = 20  # the flags of STARTS were chosen with smaller seeds
DEMOS = ROOT / "data" / "demos" / ENV_ID
RESULTS = ROOT / "benchmarks" / "results" / "fine_tuning.json"
PAGE = ROOT / "docs" / "imitation.md"
BC = (
    *("--algo=bc", f"--env_id={ENV_ID}", f"--expert_path={DEMOS}", f"--num_demos={NUM_DEMOS}"),
    *("--rollout_len=256", "--num_envs=8", "--num_iters=60"),
)
PPO = (f"--config={ROOT}/tasks/train_mujoco_ppo.yaml", f"--env_id={ENV_ID}", "--eval_frequency=5")
# start → additional flags of PPO
STARTS = {"scratch": (), "cloned policy": ("--init_log_std=-1", "--init_value_iters=5")}
Row = dict[str, Any]  # one run: start, seed, steps until it exceeded the expert (null: never), best return, seconds


def expert_return() -> float:
    """Return the mean return of the demonstrations."""
    return statistics.fmean(episode.return_ for episode in demos.read_demos(str(DEMOS), NUM_DEMOS))


def steps_to_exceed(progress: Sequence[dict[str, str]], expert: float) -> int | None:
    """Return the environment steps until the first evaluation whose mean return exceeds the expert's; else None."""
    evaluated = (row for row in progress if row["eval_return"])
    return next((int(row["timesteps"]) for row in evaluated if float(row["eval_return"]) > expert), None)


def measure(start: str, seed: int, data: Path) -> Row:
    """Train a policy, or resume its training; return its row."""
    flags = STARTS[start]
    if start != "scratch":
        cloned = f"bc.seed{seed:02}"
        train(cloned, BC, seed=seed, data=data)
        flags = (*flags, f"--init_from={data}/checkpoints/{cloned}")
    name = f"ppo-from-{start.replace(' ', '-')}.seed{seed:02}"
    progress = train(name, (*PPO, *flags), seed=seed, data=data)
    steps, last = steps_to_exceed(progress, expert_return()), progress[-1]
    best = round(float(last["best_eval_return"]), 1)
    return {"start": start, "seed": seed, "steps": steps, "best": best, "seconds": round(float(last["seconds"]))}


def table(rows: Sequence[Row]) -> str:
    """Return the steps of each seed as a Markdown table; – means not measured, "never" not within the run."""
    lines = [
        "| PPO from | steps until it exceeds the expert: median (each seed) | % of PPO from scratch |",
        "|---|---|---|",
    ]
    medians: dict[str, float] = {}
    for start in STARTS:
        runs = sorted((row for row in rows if row["start"] == start), key=lambda row: row["seed"])
        steps = [math.inf if row["steps"] is None else row["steps"] for row in runs]
        medians[start] = statistics.median(steps) if steps else math.nan
        median, *each = ("never" if math.isinf(value) else f"{value:,.0f}" for value in (medians[start], *steps))
        share = 100 * medians[start] / medians["scratch"] if math.isfinite(medians["scratch"]) else math.nan
        percentage = f"{share:.0f}" if math.isfinite(share) else "–"
        shown = f"{median} ({', '.join(each)})" if steps else "–"
        lines.append(f"| {start} | {shown} | {percentage} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Train the missing runs and save all results. Return 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data" / "fine_tuning")
    options = parser.parse_args()
    rows: list[Row] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    done = {(row["start"], row["seed"]) for row in rows}
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    missing = [(start, seed) for seed in seeds for start in STARTS if (start, seed) not in done]
    lock = threading.Lock()

    def one(start: str, seed: int) -> None:
        row = measure(start, seed, options.data_dir.absolute())
        with lock:
            rows.append(row)
            rows.sort(key=lambda each: (each["start"], each["seed"]))
            write_rows(RESULTS, rows)
            print(f"PPO from {start}, seed {seed}: {row['steps']} steps", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        started = [pool.submit(one, *case) for case in missing]
    failed = [error for each in started if (error := each.exception())]
    for error in failed:
        print(f"a run failed: {error}", flush=True)
    print(table(rows))
    update_page(PAGE, "fine_tuning.py", table(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
