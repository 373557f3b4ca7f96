"""Compare the time of an update of SAC and TD3 with Stable-Baselines3 and SBX, on one core each.

    python benchmarks/off_policy_speed.py [--repeats 3]    # on a quiet machine

All have two layers of 256 units and minibatches of 256; "2 workers" are MiloZero's with minibatches of 128 each. The
cases alternate, because machines are noisy, and the table shows medians of the repeats. SBX is installed into an
environment of its own (requirements-sbx.txt). Writes benchmarks/results/off_policy_speed.json and the table of
docs/performance.md. Needs requirements-benchmark.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from trainings import ONE_THREAD, ROOT, install, update_page

RESULTS = ROOT / "benchmarks" / "results" / "off_policy_speed.json"
PAGE = ROOT / "docs" / "performance.md"
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
ENVIRONMENT = os.environ | ONE_THREAD | AS_ROOT
CASES = ("milozero", "2 workers", "sb3", "sbx")
# algorithm → least speedup over SB3, over SBX, and of two workers over one
GOALS = {"sac": (2.0, 1.35, 1.75), "td3": (1.9, 1.5, 1.75)}
Times = dict[str, dict[str, list[float]]]  # algorithm → case → milliseconds per update of each repeat


def measure(algo: str, case: str) -> float:
    """Return the milliseconds per update; with two workers, those of the slower one."""
    python = install("sbx") if case == "sbx" else sys.executable
    library = case if case in ("sb3", "sbx") else "milozero"
    command = [python, str(ROOT / "benchmarks" / "off_policy_update.py"), f"--library={library}", f"--algo={algo}"]
    if case == "2 workers":
        command = [str(Path(sys.executable).parent / "mpiexec"), "-n", "2", *command, "--batch_size=128"]
    else:  # JAX has no other limit on its threads
        command = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *command]
    done = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return max(float(json.loads(line)["ms_per_update"]) for line in lines)


def table(times: Times) -> str:
    """Return the medians and the ratios to MiloZero as a Markdown table."""
    lines = [
        "| algorithm | MiloZero, ms | Stable-Baselines3, ms | SBX, ms | speedup over SB3, over SBX | wanted | two "
        "workers' speedup | wanted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for algo, (over_sb3, over_sbx, two) in GOALS.items():
        ms = {case: statistics.median(times[algo][case]) for case in CASES}
        ratios = {
            case: statistics.median(a / b for a, b in zip(*pair, strict=True))
            for case, pair in {
                "sb3": (times[algo]["sb3"], times[algo]["milozero"]),
                "sbx": (times[algo]["sbx"], times[algo]["milozero"]),
                "two": (times[algo]["milozero"], times[algo]["2 workers"]),
            }.items()
        }
        cells = (
            algo.upper(),
            *(f"{ms[case]:.2f}" for case in ("milozero", "sb3", "sbx")),
            f"{ratios['sb3']:.2f}, {ratios['sbx']:.2f}",
            f"≥ {over_sb3}, {over_sbx}",
            f"{ratios['two']:.2f}",
            f"≥ {two}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark, print the table and save the results."""
    from rich.progress import track

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    install("sbx")
    times: Times = {algo: {case: [] for case in CASES} for algo in GOALS}
    for _ in track(range(options.repeats), "measuring"):
        for algo in GOALS:
            for case in CASES:
                times[algo][case].append(measure(algo, case))
    RESULTS.write_text(json.dumps(times, indent=1) + "\n")
    print(table(times))
    update_page(PAGE, "off_policy_speed.py", table(times))


if __name__ == "__main__":
    main()
