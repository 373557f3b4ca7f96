"""Train the experts for the demonstrations in data/demos, and record the demonstrations.

    python benchmarks/experts.py [--only Hopper-v5 ...] [--jobs 2] [--seeds 8] [--steps N] [--limit HH:MM:SS]

For each environment, seeds are trained with `RECIPE` until the best policy of one reaches the required mean return on
new episodes. Sixteen of these episodes are copied to data/demos/<environment>, and the table of data/demos/README.md
is updated. Interrupted runs are resumed; environments that already have an expert are skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trainings import ROOT, finished, run

DEMOS = ROOT / "data" / "demos"
RESULTS = ROOT / "benchmarks" / "results" / "experts.json"
TABLE = re.compile("(?<=<!-- made by: python benchmarks/experts.py -->\\n).*?(?=<!-- end -->)", re.DOTALL)
EPISODES = 16
# environment → required mean return, training steps
WANTED = {
    "Hopper-v3": (3000, 1_000_000),
    "Hopper-v5": (3000, 3_000_000),
    "HalfCheetah-v5": (5000, 3_000_000),
    "Walker2d-v5": (4000, 5_000_000),
    "Ant-v5": (3500, 3_000_000),
}
# Based on Tianshou's PPO: advantages recomputed each epoch, not normalized; clipped values. tasks/ has newer ones.
RECIPE = (
    "--algo=ppo",
    "--num_envs=8",
    "--rollout_len=2048",
    "--vf_coef=0.25",
    "--clip_value_loss",
    "--no-normalize_advantages",
    "--recompute_advantages",
    "--log_std_init=-0.5",
    "--eval_frequency=50",
    "--eval_episodes=5",
    "--save_frequency=200",
    "--keep_checkpoints=1",
)
# environment → flags that override or extend the recipe. Every torque costs Ant reward, so with large noise it learns
# to lie still; most of its observations are contact forces, for which small minibatches are too noisy.
INSTEAD = {
    "Ant-v5": (
        "--num_envs=32",
        "--rollout_len=8192",
        "--batch_size=512",
        "--normalize_advantages",
        "--log_std_init=-1",
        "--eval_frequency=10",
    )
}


class Experts:
    """Searches for an expert of each environment and keeps those found so far.

    Args:
        data: folder of the runs.
        steps: training steps; 0 for those in `WANTED`.
        limit: wall-clock limit of a run (HH:MM:SS), or an empty string.
    """

    def __init__(self, data: Path, steps: int, limit: str) -> None:
        self.data, self.steps, self.limit = data, steps, limit
        self.experts: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        self.tried: dict[str, dict[int, float]] = {env_id: {} for env_id in WANTED}
        self._lock = threading.Lock()

    def train(self, env_id: str, seed: int) -> None:
        """Train a seed unless the environment has an expert; if the seed is one, save its episodes."""
        if env_id in self.experts:
            return
        required, steps = WANTED[env_id][0], self.steps or WANTED[env_id][1]
        name = f"expert.{env_id}.seed{seed:02}"
        common, log = (f"--data_dir={self.data}", f"--seed={seed}"), self.data / f"{name}.txt"
        if not finished(self.data / "logs" / name / "status.json"):
            flags = (f"--env_id={env_id}", f"--uuid={name}", f"--num_timesteps={steps}", "--resume=auto")
            recipe = (*RECIPE, *INSTEAD.get(env_id, ()))
            run("--task=train", *flags, *recipe, *common, f"--execution_time={self.limit}", log=log)
        evaluation = self.data / "evaluations" / name / "best"
        shutil.rmtree(evaluation, ignore_errors=True)  # of an earlier start; otherwise, this one goes to best-2
        model = ("--task=eval", f"--model_path={self.data}/checkpoints/{name}", "--iter_num=best")
        run(*model, f"--num_trajs={EPISODES}", "--save_traj", *common, log=log)
        mean = round(json.loads((evaluation / "results.json").read_text())["return_mean"], 1)
        with self._lock:
            self.tried[env_id][seed] = mean
            print(f"{env_id}, seed {seed}: {mean}", flush=True)
            if mean < max(required, self.experts.get(env_id, {}).get("return_mean", required)):
                return
            folder = DEMOS / env_id
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for episode in sorted(evaluation.glob("episode_*.h5")):
                shutil.copy(episode, folder)
            with (self.data / "logs" / name / "progress.csv").open() as file:
                done = int(list(csv.DictReader(file))[-1]["timesteps"])
            self.experts[env_id] = {"seed": seed, "steps": done, "return_mean": mean}
            self.write()

    def write(self) -> None:
        """Save the experts found and the returns of the other seeds."""
        for env_id, row in self.experts.items():
            if values := self.tried[env_id]:
                row["others"] = [value for seed, value in sorted(values.items()) if seed != row["seed"]]
        RESULTS.write_text(json.dumps(dict(sorted(self.experts.items())), indent=1) + "\n")


def main() -> None:
    """Train the missing experts and update the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sorted(WANTED), default=list(WANTED))
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs")
    parser.add_argument("--seeds", type=int, default=8, help="maximum number of seeds per environment")
    parser.add_argument("--steps", type=int, default=0, help="training steps of a run (default: set per environment)")
    parser.add_argument("--limit", default="", help="wall-clock limit of a run, HH:MM:SS")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data" / "experts")
    options = parser.parse_args()
    experts = Experts(options.data_dir, options.steps, options.limit)
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(experts.train, env_id, seed) for seed in range(options.seeds) for env_id in options.only]
    for each in runs:
        if error := each.exception():
            print(f"a run failed: {error}", flush=True)
    experts.write()
    rows = experts.experts
    lines = [
        "| environment | mean return of 16 episodes | PPO's seed | steps | other seeds tried |",
        "|---|---|---|---|---|",
    ]
    for env_id, row in sorted(rows.items()):
        others = ", ".join(f"{value:,.0f}" for value in row["others"]) or "–"
        lines.append(f"| {env_id} | {row['return_mean']:,.1f} | {row['seed']} | {row['steps']:,} | {others} |")
    page = DEMOS / "README.md"
    page.write_text(TABLE.sub(lambda _: "\n".join(lines) + "\n", page.read_text()))


if __name__ == "__main__":
    main()
