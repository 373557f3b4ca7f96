"""What W&B costs a run: its speed and its time without it, offline, with a server, and with a silent one.

    python benchmarks/tracking.py [--steps=200000] [--repeats=3] [--workers 1 2]

The kinds take turns, so that what else the machine does falls on all of them; each is compared with the run without
of the same turn. With as many workers as cores, the client has no core to itself. The server is the tests' own, on
loopback, and speaks with the real client. Writes benchmarks/results/tracking.json and the table of docs/wandb.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
RESULT = ROOT / "benchmarks" / "results" / "tracking.json"
DOCUMENT = ROOT / "docs" / "wandb.md"
TABLE = re.compile("(?<=<!-- made by: python benchmarks/tracking.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
KINDS = ("without", "offline", "server", "silent server")
WARM_UP = 3  # iterations that compiling falls into


def run(seed: int, steps: int, workers: int, flags: list[str], variables: dict[str, str]) -> tuple[float, float]:
    """Train Hopper; return environment steps per second after the warm-up, and the seconds the whole command took."""
    with tempfile.TemporaryDirectory() as data:
        launcher = [shutil.which("mpiexec") or "mpiexec", "-n", str(workers)] if workers > 1 else []
        command = [*launcher, sys.executable, str(ROOT / "main.py"), "--task=train", "--env_id=Hopper"]
        command += [f"--seed={seed}", f"--num_timesteps={steps}", f"--data_dir={data}", "--uuid=run"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        began = time.monotonic()
        subprocess.run(
            [*command, "--eval_frequency=0", *flags], env=clean | variables, check=True, capture_output=True
        )
        seconds = time.monotonic() - began
        with Path(data, "logs/run/progress.csv").open() as file:
            rows = list(csv.DictReader(file))
    first, last = rows[WARM_UP - 1], rows[-1]
    done = int(last["timesteps"]) - int(first["timesteps"])
    return done / (float(last["seconds"]) - float(first["seconds"])), seconds


def table(measured: list[dict[str, Any]]) -> str:
    """Return what was measured as a table in Markdown."""
    lines = [
        "| workers | W&B | steps/s | of the speed without | seconds more, the whole command |",
        "|---|---|---|---|---|",
    ]
    for row in measured:
        ratio, more = statistics.median(row["ratios"]), statistics.median(row["seconds_more"])
        low, high = min(row["ratios"]), max(row["ratios"])
        compared = f"{ratio:.1%} ({low:.1%} to {high:.1%}) | {more:+.1f}" if row["kind"] != "without" else "– | –"
        speed = statistics.median(row["steps_per_second"])
        lines.append(f"| {row['workers']} | {row['kind']} | {speed:,.0f} | {compared} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and keep the figures."""
    from rich.progress import track
    from wandb_server import WandbServer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    options = parser.parse_args()
    turns = [(n, seed, kind) for n in options.workers for seed in range(options.repeats) for kind in KINDS]
    results: dict[tuple[int, str], list[tuple[float, float]]] = {(n, kind): [] for n, _, kind in turns}
    for workers, seed, kind in track(turns, "measuring"):
        with WandbServer() as server:
            server.fault = "silent" if kind == "silent server" else ""
            variables = server.environment if "server" in kind else {}
            flags = [] if kind == "without" else ["--wandb_project=p"]
            results[workers, kind].append(run(seed, options.steps, workers, flags, variables))
    measured = [
        {
            "workers": workers,
            "kind": kind,
            "steps_per_second": [speed for speed, _ in pairs],
            "ratios": [a / b for (a, _), (b, _) in zip(pairs, results[workers, "without"], strict=True)],
            "seconds_more": [a - b for (_, a), (_, b) in zip(pairs, results[workers, "without"], strict=True)],
        }
        for (workers, kind), pairs in results.items()
    ]
    print(table(measured))
    RESULT.write_text(json.dumps(vars(options) | {"measured": measured}, indent=1) + "\n")
    DOCUMENT.write_text(TABLE.sub(lambda _: table(measured), DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
