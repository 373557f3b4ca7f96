"""Train PPO on OpenSim's arm and runner with two workers, and save returns and learning curves.

``python benchmarks/opensim_learning.py`` trains them for 10 and 15 minutes and writes
``benchmarks/results/opensim_learning.json`` and ``assets/images/opensim_learning.png``. A task whose results are from
the current commit is skipped. ``--tasks`` without a value only plots the existing results.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from milozero.agents.base import AgentContext  # noqa: E402
from milozero.environments import make_env  # noqa: E402
from milozero.evaluation.episodes import episode_seeds, run_episode  # noqa: E402
from milozero.evaluation.loading import make_agent  # noqa: E402
from milozero.experiment import checkpoint  # noqa: E402
from milozero.experiment.initializer import git_sha  # noqa: E402
from milozero.experiment.resume import settings_from_metadata  # noqa: E402
from milozero.helpers.comm import Comm  # noqa: E402
from milozero.helpers.config.values import to_kwargs  # noqa: E402
from milozero.helpers.files import write_bytes  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "opensim_learning.json"
PICTURE = ROOT / "assets" / "images" / "opensim_learning.png"
TASKS = {"arm": "tasks/train_opensim_arm_ppo.yaml", "run": "tasks/train_opensim_run_ppo.yaml"}
EPISODES = 50  # per evaluation
OTHER_SEED = 1000  # random targets that training never used for evaluation


def train(name: str, data: Path) -> Path:
    """Train a new run with two workers; return its folder of checkpoints."""
    uuid = f"opensim_{name}.{time.strftime('%Y%m%d_%H%M%S')}"
    command = ["mpiexec", "-n", "2", sys.executable, "main.py", "--task=train", f"--config={TASKS[name]}"]
    subprocess.run([*command, f"--data_dir={data}", f"--uuid={uuid}"], cwd=ROOT, check=True)
    return data / "checkpoints" / uuid


def measure(folder: Path) -> dict[str, Any]:
    """Evaluate the policy before the first and after the last update, on the same random targets."""
    content = checkpoint.load(folder / "last.pt")
    settings = settings_from_metadata(content["config"])
    env = make_env(content["config"]["env_id"], None, to_kwargs(settings.common.env_kwargs))
    agent = make_agent(
        settings, env, env.observation_space.shape[0], AgentContext(Comm(), seed=settings.common.seed or 0)
    )
    result = {"before": performance(agent, env)}
    checkpoint.restore_agent(agent, content["agent"])
    result["after"] = performance(agent, env)
    return result | {"steps": content["counters"]["timesteps"], "seconds": round(content["counters"]["seconds"])}


def performance(agent: Any, env: Any) -> dict[str, float]:
    """Return the mean return and length of episodes and, for the arm, the tip's mean distance from its target."""
    returns, lengths, last, throughout = [], [], [], []
    for seed in episode_seeds(OTHER_SEED, EPISODES):
        distances: list[float] = []

        def note(distances: list[float] = distances) -> None:
            distances.append(env.unwrapped._get_info().get("distance", math.nan))

        episode = run_episode(agent, env, seed, note)
        returns.append(episode.return_)
        lengths.append(len(episode))
        last.append(distances[-1])
        throughout.append(statistics.fmean(distances))
    result = {"return": statistics.fmean(returns), "length": statistics.fmean(lengths)}
    if not math.isnan(last[0]):
        result |= {"distance_at_end_m": statistics.fmean(last), "distance_throughout_m": statistics.fmean(throughout)}
    return {key: round(value, 4) for key, value in result.items()}


def curve(logs: Path) -> list[dict[str, float]]:
    """Return twenty points of the learning curve (steps and mean training return)."""
    with open(logs / "progress.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["return_mean"] not in ("", "nan")]
    groups = [rows[len(rows) * k // 20 : len(rows) * (k + 1) // 20] for k in range(20)]
    return [
        {
            "steps": int(float(group[-1]["timesteps"])),
            "return": round(statistics.fmean(float(row["return_mean"]) for row in group), 3),
        }
        for group in groups
        if group
    ]


def draw(results: dict[str, Any]) -> None:
    """Plot each task's training returns, and its deterministic policy's return before and after training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for axes, (name, result) in zip(panels, results.items(), strict=True):
        steps = [point["steps"] for point in result["curve"]]
        axes.plot(steps, [point["return"] for point in result["curve"]], label="training episodes (sampled actions)")
        returns = [result[when]["return"] for when in ("before", "after")]
        axes.plot([0, result["steps"]], returns, "o", label="first and last policy (deterministic)")
        axes.set(xlabel="environment steps", ylabel="episode return", title=TASKS[name])
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", frameon=False)
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    """Train and evaluate each task and save its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data")
    parser.add_argument("--again", action="store_true", help="retrain even if the results are current")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.tasks:
        if results.get(name, {}).get("commit") == git_sha() and not options.again:
            continue
        date = time.strftime("%Y-%m-%d")
        folder = train(name, options.data_dir.absolute())
        result = measure(folder)
        logs = options.data_dir / "logs" / folder.name
        results[name] = {"commit": git_sha(), "date": date, "task": TASKS[name], **result, "curve": curve(logs)}
        write_bytes(RESULTS, (json.dumps(results, indent=2) + "\n").encode())
        print(json.dumps({key: results[name][key] for key in ("before", "after", "steps", "seconds")}, indent=2))
    draw(results)


if __name__ == "__main__":
    main()
