"""Try many times as many odd inputs as the tests do, and count them.

    python benchmarks/fuzz.py [--times 5]

Runs the tests of tests/system/test_fuzz_*.py with more inputs: command lines, task files, demonstrations,
checkpoints, and environments that combine oddities. Each input must work or be refused in one line. Saves
benchmarks/results/fuzz.json and updates the table of docs/reliability.md. Takes about eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from typing import Any

from trainings import ROOT, update_page, write_rows

RESULTS = ROOT / "benchmarks" / "results" / "fuzz.json"
PAGE = ROOT / "docs" / "reliability.md"
# file of tests → what it tries
INPUTS = {
    "settings": "command lines and task files",
    "main": "command lines up to the task, and up to the first step",
    "demos": "demonstrations (HDF5)",
    "checkpoints": "checkpoints with damaged bytes",
    "envs": "environments that combine oddities: trained, evaluated and recorded",
}


def count(output: str) -> tuple[int, int]:
    """Return the numbers of passing and failing inputs in hypothesis' statistics."""
    found = re.findall(r"- (\d+) passing, (\d+) failing", output)
    return sum(int(passing) for passing, _ in found), sum(int(failing) for _, failing in found)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| inputs | tried | traceback, hang or changed file |", "|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['inputs']} | {row['passing'] + row['failing']:,} | {row['failing']} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the tests, save the counts and return 1 if an input failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=float, default=5, help="how many times as many inputs as the tests try")
    options = parser.parse_args()
    environment = os.environ | {"MILOZERO_FUZZ": str(options.times)}
    rows = []
    for name, inputs in INPUTS.items():
        tests = f"tests/system/test_fuzz_{name}.py"
        command = [sys.executable, "-m", "pytest", "-q", "--hypothesis-show-statistics", "--timeout=3600", tests]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        passing, failing = count(done.stdout)
        if done.returncode and not failing:
            sys.exit(f"{tests} failed:\n{done.stdout}{done.stderr}")
        rows.append({"inputs": inputs, "times": options.times, "passing": passing, "failing": failing})
        print(f"{inputs}: {passing:,} passing, {failing} failing", flush=True)
    write_rows(RESULTS, rows)
    update_page(PAGE, "fuzz.py", table(rows))
    return int(any(row["failing"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
