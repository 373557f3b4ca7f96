"""Train the experts whose demonstrations lie under data/demos, and record these.

    python benchmarks/experts.py [--only Hopper-v5 ...] [--jobs 2] [--data_dir data/experts]

For each environment, seeds are trained one after another by `RECIPE`, until the best policy of one, over fresh
episodes, reaches what is wanted; sixteen of its episodes then go to data/demos/<environment>, and what it did to the
table of data/demos/README.md. Runs go on where they were stopped; environments in the table are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEMOS = ROOT / "data" / "demos"
RESULTS = ROOT / "benchmarks" / "results" / "experts.json"
TABLE = re.compile("(?<=<!-- made by: python benchmarks/experts.py -->\\n).*?(?=<!-- end -->)", re.DOTALL)
EPISODES = 16
SEEDS = 8  # to try at most
# environment → mean return wanted, steps to train for
WANTED = {
    "Hopper-v5": (3000, 3_000_000),
    "HalfCheetah-v5": (5000, 3_000_000),
    "Walker2d-v5": (4000, 5_000_000),
    "Ant-v5": (3500, 10_000_000),
}
# As Tianshou's PPO: advantages anew each epoch, not normalised, values clipped.
RECIPE = (
    "--algo=ppo",
    "--num_envs=8",
    "--rollout_len=2048",
    "--value_coefficient=0.25",
    "--clip_value",
    "--no-normalize_advantages",
    "--recompute_advantages",
    "--log_std=-0.5",
    "--eval_frequency=50",
    "--eval_episodes=5",
    "--save_frequency=200",
    "--keep_checkpoints=1",
)


def run(*arguments: str, log: Path) -> None:
    """Run main.py to its end; what it says goes to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        subprocess.run([sys.executable, str(ROOT / "main.py"), *arguments], check=True, stdout=file, stderr=file)


def expert(env_id: str, data: Path) -> dict[str, Any]:
    """Train until a seed is good enough, and put its episodes into place; return what came of it."""
    wanted, steps = WANTED[env_id]
    tried = []
    for seed in range(SEEDS):
        name = f"expert.{env_id}.seed{seed:02}"
        common = (f"--data_dir={data}", f"--seed={seed}")
        status = data / "logs" / name / "status.json"
        if not status.exists() or json.loads(status.read_text())["state"] != "finished":
            train = ("--task=train", f"--env_id={env_id}", f"--uuid={name}", f"--num_timesteps={steps}")
            run(*train, *RECIPE, *common, "--resume=auto", log=data / f"{name}.txt")
        model = ("--task=eval", f"--model_path={data}/checkpoints/{name}", "--iter_num=best")
        run(*model, f"--num_trajs={EPISODES}", "--save_traj", *common, log=data / f"{name}.txt")
        played = data / "evaluations" / name / "best"
        mean = json.loads((played / "results.json").read_text())["return_mean"]
        tried.append(round(mean, 1))
        if mean >= wanted:
            folder = DEMOS / env_id
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for episode in sorted(played.glob("episode_*.h5")):
                shutil.copy(episode, folder)
            return {"seed": seed, "steps": steps, "return_mean": round(mean, 1), "tried": tried}
    raise SystemExit(f"{env_id}: none of {SEEDS} seeds reached {wanted}: {tried}")


def main() -> None:
    """Train what is missing, a job a core."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sorted(WANTED), default=list(WANTED))
    parser.add_argument("--jobs", type=int, default=2, help="environments at a time")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data" / "experts")
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    missing = [env_id for env_id in options.only if env_id not in found]

    def one(env_id: str) -> None:
        found[env_id] = expert(env_id, options.data_dir)
        RESULTS.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
        print(f"{env_id}: {found[env_id]}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, missing))
    lines = [
        "| environment | mean return of 16 episodes | PPO's seed | steps | seeds before it |",
        "|---|---|---|---|---|",
    ]
    for env_id, row in sorted(found.items()):
        before = ", ".join(f"{value:,.0f}" for value in row["tried"][:-1]) or "–"
        lines.append(f"| {env_id} | {row['return_mean']:,.1f} | {row['seed']} | {row['steps']:,} | {before} |")
    page = DEMOS / "README.md"
    page.write_text(TABLE.sub(lambda _: "\n".join(lines) + "\n", page.read_text()))


if __name__ == "__main__":
    main()
