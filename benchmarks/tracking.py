"""What Weights & Biases costs a run: steps per second without it, offline, with a server, and with a silent one.

    python benchmarks/tracking.py [--steps=400000] [--repeats=3]

The kinds take turns, so that what else the machine does falls on all of them; each is compared with the run without
of the same turn. The server is the tests' own, on loopback, and speaks with the real client.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
RESULT = ROOT / "benchmarks" / "results" / "tracking.json"


def steps_per_second(seed: int, steps: int, flags: list[str], variables: dict[str, str]) -> float:
    """Train Hopper with one worker; return environment steps per second, by the run's own clock."""
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, str(ROOT / "main.py"), "--task=train", "--env_id=Hopper", f"--seed={seed}"]
        command += [f"--num_timesteps={steps}", f"--data_dir={data}", "--uuid=run", "--eval_frequency=0", *flags]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        subprocess.run(command, env=clean | variables, check=True, capture_output=True)
        with Path(data, "logs/run/progress.csv").open() as file:
            return float(list(csv.DictReader(file))[-1]["steps_per_second"])


def main() -> None:
    """Measure, print, and keep the figures."""
    from rich.progress import track
    from wandb_server import WandbServer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    kinds = ("without", "offline", "server", "silent server")
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for seed, kind in track([(seed, kind) for seed in range(options.repeats) for kind in kinds], "measuring"):
        with WandbServer() as server:
            server.fault = "silent" if kind == "silent server" else ""
            variables = server.environment if "server" in kind else {}
            flags = [] if kind == "without" else ["--wandb_project=p"]
            speeds[kind].append(steps_per_second(seed, options.steps, flags, variables))
    ratios = {kind: [a / b for a, b in zip(speeds[kind], speeds["without"], strict=True)] for kind in kinds[1:]}
    for kind in kinds:
        ratio = f"  ratio {statistics.median(ratios[kind]):.3f}" if kind in ratios else ""
        print(f"{kind:14} {statistics.median(speeds[kind]):8,.0f} steps/s{ratio}")
    RESULT.write_text(json.dumps(vars(options) | {"steps_per_second": speeds, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
