"""Measure what W&B costs a run: speed and duration without it, offline, with a server and with a silent server.

    python benchmarks/tracking.py [--steps=100000] [--repeats=3] [--workers 1 2]

The cases alternate, so that other load on the machine affects all of them; each is compared with the run without W&B
of the same turn. With as many workers as cores, the client has no core to itself. The server is the tests' own, on
loopback; the client is the real one. Saves benchmarks/results/tracking.json after each run, resumes from it if
interrupted, and updates the table of docs/wandb.md.
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
sys.path.insert(0, str(ROOT))
RESULT = ROOT / "benchmarks" / "results" / "tracking.json"
DOCUMENT = ROOT / "docs" / "wandb.md"
TABLE = re.compile("(?<=<!-- made by: python benchmarks/tracking.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
KINDS = ("without", "offline", "server", "silent server")
WARM_UP = 3  # first iterations, which include compilation


def run(seed: int, steps: int, workers: int, flags: list[str], variables: dict[str, str]) -> tuple[float, float]:
    """Train Hopper; return environment steps per second after the warm-up and the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as data:
        launcher = [shutil.which("mpiexec") or "mpiexec", "-n", str(workers)] if workers > 1 else []
        command = [*launcher, sys.executable, str(ROOT / "main.py"), "--task=train", "--env_id=Hopper"]
        command += ["--compile", f"--seed={seed}", f"--num_timesteps={steps}", f"--data_dir={data}", "--uuid=run"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        started = time.monotonic()
        subprocess.run(
            [*command, "--eval_frequency=0", *flags], env=clean | variables, check=True, capture_output=True
        )
        seconds = time.monotonic() - started
        with Path(data, "logs/run/progress.csv").open() as file:
            rows = list(csv.DictReader(file))
    first, last = rows[WARM_UP - 1], rows[-1]
    done = int(last["timesteps"]) - int(first["timesteps"])
    return done / (float(last["seconds"]) - float(first["seconds"])), seconds


def table(runs: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table; each run is compared with the run without W&B of its turn."""
    lines = [
        "| workers | W&B | steps/s | of the speed without | seconds more, the whole command |",
        "|---|---|---|---|---|",
    ]
    by_key = {(row["workers"], row["turn"], row["kind"]): row for row in runs}
    for workers in sorted({row["workers"] for row in runs}):
        complete = [turn for n, turn, kind in by_key if n == workers and kind == KINDS[-1]]
        for kind in KINDS if complete else ():
            pairs = [(by_key[workers, turn, kind], by_key[workers, turn, "without"]) for turn in complete]
            ratios = [a["steps_per_second"] / b["steps_per_second"] for a, b in pairs]
            more = statistics.median(a["seconds"] - b["seconds"] for a, b in pairs)
            low, high = f"{min(ratios):.1%}", f"{max(ratios):.1%}"
            compared = f"{statistics.median(ratios):.1%} ({low} to {high}) | {more:+.1f}"
            speed = statistics.median(a["steps_per_second"] for a, _ in pairs)
            lines.append(f"| {workers} | {kind} | {speed:,.0f} | {compared if kind != 'without' else '– | –'} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and save the results."""
    from rich.progress import track

    from tests.support.wandb_server import WandbServer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    options = parser.parse_args()
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if known.get("steps") != options.steps:
        known = {"steps": options.steps, "runs": []}
    done = {(row["workers"], row["turn"], row["kind"]) for row in known["runs"]}
    turns = [(n, turn, kind) for turn in range(options.repeats) for n in options.workers for kind in KINDS]
    for workers, turn, kind in track([each for each in turns if each not in done], "measuring"):
        with WandbServer() as server:
            server.fault = "silent" if kind == "silent server" else ""
            variables = server.environment if "server" in kind else {}
            flags = [] if kind == "without" else ["--wandb_project=p"]
            speed, seconds = run(turn, options.steps, workers, flags, variables)
        row = {"workers": workers, "turn": turn, "kind": kind, "steps_per_second": speed, "seconds": seconds}
        known["runs"].append(row)
        RESULT.write_text(json.dumps(known, indent=1) + "\n")
    print(table(known["runs"]))
    DOCUMENT.write_text(TABLE.sub(lambda _: table(known["runs"]), DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
