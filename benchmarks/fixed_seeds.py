"""Hash the results of runs with fixed seeds, to check that a refactoring leaves training bit-identical.

    git worktree add ../before HEAD~1
    python benchmarks/fixed_seeds.py --checkout=../before --out=../before.json
    python benchmarks/fixed_seeds.py --against=../before.json

Each run trains on Hopper for a few iterations: every algorithm with one and two workers, with and without compiled
updates. One hash covers the agent in ``last.pt`` (parameters, Adam's moments, normalizers), another
``progress.csv`` without its timings. Hashes are only comparable on one machine: other processors round differently.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
TIMES = {"seconds", "steps_per_second", "time_left"}
SHORT = ("--num_iters=4", "--num_envs=4", "--rollout_len=512", "--eval_episodes=2", "--eval_frequency=2", "--seed=3")
DEMOS = (f"--expert_path={ROOT}/data/demos/Hopper-v5", "--num_demos=2", "--d_perception_stack=mlp_32")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
# algorithm → its flags; DAgger's expert is the first run
ALGORITHMS: dict[str, tuple[str, ...]] = {
    "ppo": (),
    "bc": DEMOS[:2],
    "gail": DEMOS,
    "airl": DEMOS,
    "dagger": ("--expert_model={data}/checkpoints/ppo_1_worker", "--expert_iter_num=last"),
}
# name → algorithm, workers, compiled
RUNS = {
    f"{algo}, {'1 worker' if workers == 1 else '2 workers'}{', compiled' * compiled}": (algo, workers, compiled)
    for algo in ALGORITHMS
    for compiled in (False, True)
    for workers in (1, 2)
}


def leaves(value: Any) -> Iterator[bytes]:
    """Yield the bytes of all tensors and other values in nested dictionaries and lists."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, torch.Tensor):
        yield value.contiguous().numpy().tobytes()
    else:
        yield repr(value).encode()


def hashes(data: Path, uuid: str) -> dict[str, str]:
    """Return the hashes of a run's last agent and of its metrics."""
    agent = torch.load(data / "checkpoints" / uuid / "last.pt", weights_only=True)["agent"]
    learned = hashlib.sha256()
    for content in sorted(leaves(agent)):  # without names, which a refactoring may change
        learned.update(content)
    with (data / "logs" / uuid / "progress.csv").open(newline="") as file:
        rows = [[value for name, value in row.items() if name not in TIMES] for row in csv.DictReader(file)]
    return {"agent": learned.hexdigest()[:16], "progress": hashlib.sha256(repr(rows).encode()).hexdigest()[:16]}


def train(checkout: Path, data: Path, name: str) -> dict[str, str]:
    """Train one of `RUNS` with the main.py of a checkout; return its hashes."""
    algo, workers, compiled = RUNS[name]
    uuid = name.replace(", ", "_").replace(" ", "_")
    flags = [flag.format(data=data) for flag in (*SHORT, *ALGORITHMS[algo])]
    flags.append("--compile" if compiled else "--no-compile")
    launcher = ["mpiexec", "-n", str(workers)] if workers > 1 else []
    command = [*launcher, sys.executable, str(checkout / "main.py"), "--task=train", f"--algo={algo}", *flags]
    command += ["--env_id=Hopper", f"--uuid={uuid}", f"--data_dir={data}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    return hashes(data, uuid)


def main() -> int:
    """Train all `RUNS`, print their hashes and compare them with earlier ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="the code to run (default: this checkout)")
    parser.add_argument("--out", type=Path, help="write the hashes to this JSON file")
    parser.add_argument("--against", type=Path, help="compare with this JSON file; exit code 1 if they differ")
    options = parser.parse_args()
    before = json.loads(options.against.read_text()) if options.against else {}
    results, changed = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in RUNS:
            results[name] = train(options.checkout, Path(folder), name)
            verdict = "" if not before else "missing" if name not in before else "equal"
            if verdict == "equal" and before[name] != results[name]:
                verdict = "DIFFERENT"
            changed += [name] if verdict in ("missing", "DIFFERENT") else []
            print(f"{name:26} {results[name]['agent']}  {results[name]['progress']}  {verdict}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
