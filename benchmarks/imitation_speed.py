"""Compare environment steps per second of GAIL with the `imitation` library 1.0.1.

    python benchmarks/imitation_speed.py [--repeats 3]

The library requires old versions of many packages, so the first run installs requirements-imitation.txt into a
separate environment, `.venv-imitation`. Both train on Hopper with one thread, with two layers of 64 units each for
policy and value function. Each discriminator is trained as its users would train it: the library's with its tuned
settings (8 minibatches of 128 + 128 per round), this project's with its defaults (one pass over the rollout in
minibatches of 128 + 128, which is more). The cases alternate, because machines are noisy. Writes
benchmarks/results/imitation_speed.json and the table of docs/imitation.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from trainings import ONE_THREAD, ROOT, install, update_page

sys.path.insert(0, str(ROOT))

from milozero.demonstrations.dataset import read_demos

DEMOS = ROOT / "data" / "demos" / "Hopper-v5"
RESULTS = ROOT / "benchmarks" / "results" / "imitation_speed.json"
PAGE = ROOT / "docs" / "imitation.md"
ENVIRONMENT = os.environ | ONE_THREAD
WARM_UP = 4  # first iterations of this project, which compile
# steps per round, minibatch size, epochs → target speedup over the library
SETTINGS = {(2048, 64, 10): 3.5, (4096, 512, 20): 2.3}


def library(demos: Path, steps: int, batch_size: int, epochs: int) -> float:
    """Return the library's steps per second."""
    flags = [f"--demos={demos}", f"--steps={steps}", f"--batch_size={batch_size}", f"--epochs={epochs}", "--rounds=8"]
    python = (install("imitation"), "-P")  # -P: else imitation.py, beside the script, shadows the library
    command = [*python, str(ROOT / "benchmarks" / "imitation_gail.py"), *flags]
    done = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["steps_per_second"])


def milozero(steps: int, batch_size: int, epochs: int) -> float:
    """Return this project's steps per second, with one worker."""
    with tempfile.TemporaryDirectory() as data:
        flags = [f"--rollout_len={steps}", f"--batch_size={batch_size}", f"--epochs={epochs}", f"--data_dir={data}"]
        flags += ["--eval_frequency=0", "--eval_episodes=1", "--save_frequency=1000000", "--compile", "--uuid=bench"]
        flags += ["--env_id=Hopper-v4", f"--expert_path={DEMOS}", "--num_iters=30", "--d_perception_stack=mlp_32"]
        flags += ["--num_envs=8"]  # same as the library's run
        command = [sys.executable, str(ROOT / "main.py"), "--task=train", "--algo=gail", *flags]
        subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True)
        with Path(data, "logs/bench/progress.csv").open() as file:
            rows = list(csv.DictReader(file))
    first, last = rows[WARM_UP], rows[-2]
    return (int(last["timesteps"]) - int(first["timesteps"])) / (float(last["seconds"]) - float(first["seconds"]))


def table(speeds: dict[str, dict[str, list[float]]]) -> str:
    """Return the medians, and the ratio within each repeat, as a Markdown table."""
    lines = [
        "| steps, minibatch, epochs | MiloZero, steps/s | `imitation`, steps/s | ratio (of each repeat) | target |",
        "|---|---|---|---|---|",
    ]
    for settings, target in SETTINGS.items():
        ours, theirs = (speeds[str(settings)][who] for who in ("milozero", "imitation"))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
        numbers = (f"{statistics.median(of):,.0f}" for of in (ours, theirs))
        cells = (", ".join(map(str, settings)), *numbers, f"{statistics.median(ratios):.1f} ({each})", f"≥ {target}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark, print the table and save the results."""
    from rich.progress import track

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    install("imitation")
    speeds: dict[str, dict[str, list[float]]] = {str(s): {"milozero": [], "imitation": []} for s in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        demos = Path(folder, "demos.npz")
        episodes = read_demos(str(DEMOS), 0)
        fields = {f"obs{k}": e.obs for k, e in enumerate(episodes)} | {
            f"acs{k}": e.actions for k, e in enumerate(episodes)
        }
        np.savez(demos, **fields)
        for _ in track(range(options.repeats), "measuring"):
            for settings in SETTINGS:
                speeds[str(settings)]["milozero"].append(milozero(*settings))
                speeds[str(settings)]["imitation"].append(library(demos, *settings))
    RESULTS.write_text(json.dumps(speeds, indent=1) + "\n")
    print(table(speeds))
    update_page(PAGE, "imitation_speed.py", table(speeds))


if __name__ == "__main__":
    main()
