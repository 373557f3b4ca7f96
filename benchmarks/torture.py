"""Kill training runs at random moments, resume them, and compare the results with a run that was never killed.

``make torture`` tests every algorithm in `AGENTS` and updates the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import csv
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from milozero.agents import config_class  # noqa: E402
from milozero.experiment.settings import used_settings  # noqa: E402

RESULTS = ROOT / "benchmarks/results/torture.json"
PAGE = ROOT / "docs/reliability.md"
ENVIRONMENT = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
# Many small iterations and many checkpoints, so that random moments often hit the writing of a checkpoint.
SAVE_FREQUENCY = 4
FLAGS = (
    "--task=train",
    "--num_envs=4",
    "--rollout_len=256",
    "--batch_size=32",
    f"--save_frequency={SAVE_FREQUENCY}",
    "--keep_checkpoints=3",
    "--eval_frequency=7",
    "--eval_episodes=2",
    "--seed=5",
)
DEMOS = (f"--expert_path={ROOT / 'data/demos/Hopper-v3'}", "--num_demos=4", "--demo_subsampling=5")
OTHER_ENVS = (
    *("CartPole", "dmc:walker-walk", "OsimArm2D"),
    *(f"tests.support.user_envs:{name}-v0" for name in ("Bounded", "DrawsGlobally")),
)
OFF_POLICY = (  # the replay buffer wraps around after a quarter of the shortest run
    *("--buffer_size=2048", "--learning_starts=512", "--train_freq=64", "--updates_per_step=0.1"),
    *("--p_perception_stack=mlp_32", "--q_perception_stack=mlp_32"),
)
# columns of progress.csv that differ between runs
TIMES = ("seconds", "steps_per_second", "time_left", "updates_per_second")


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    algo: str
    workers: int
    how: str  # "a worker" or "the launcher" is killed, "SIGUSR1" asks to stop, "anything" chooses at random
    compile: bool = False
    env_id: str = "Hopper"

    @property
    def name(self) -> str:
        """A description of the run for the table."""
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{self.algo}, {self.env_id.rpartition('.user_envs:')[2]}, {workers}{', compiled' * self.compile}"


def cases(algos: list[str]) -> list[Case]:
    """Return the cases for these algorithms."""
    rows = []
    for algo in algos:
        rows += [Case(algo, 1, "a worker"), Case(algo, 2, "a worker"), Case(algo, 2, "the launcher")]
        rows += [Case(algo, 1, "SIGUSR1"), Case(algo, 2, "SIGUSR1")]
        rows += [Case(algo, 3, "anything")]
        if algo == "ppo":  # the other algorithms have no demonstrations of these environments
            rows += [Case(algo, 1, "anything", env_id=env_id) for env_id in OTHER_ENVS]
        rows += [Case(algo, 2, "a worker", compile=True)]
    return rows


@functools.cache
def expert() -> Path:
    """Train a short run as the expert for DAgger, however weak; return its checkpoints."""
    data = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, data)
    flags = ("--env_id=Hopper", "--num_iters=1", "--uuid=expert", f"--data_dir={data}", "--no-compile", "--epochs=4")
    subprocess.run([sys.executable, str(ROOT / "main.py"), *FLAGS, *flags], check=True, capture_output=True)
    return data / "checkpoints" / "expert"


def own_flags(algo: str) -> tuple[str, ...]:
    """Return an algorithm's own flags, which name the expert or the demonstrations that it learns from."""
    if "buffer_size" in used_settings("train", algo):
        return (*OFF_POLICY, *teacher_flags(algo))
    return ("--epochs=4", *teacher_flags(algo))


def teacher_flags(algo: str) -> tuple[str, ...]:
    """Return the flags for the expert or the demonstrations that an algorithm learns from."""
    if "expert_model" in used_settings("train", algo):
        return (
            f"--expert_model={expert()}",
            "--expert_iter_num=last",
            "--dagger_beta_iters=8",
            "--dagger_buffer_size=3000",
        )
    absorbing = ("--d_absorbing", "--d_reward=unbiased") if algo == "gail" else ()
    return (*DEMOS, *absorbing) if config_class(algo).LEARNS_FROM_DEMOS else ()


def command(case: Case, folder: Path, iterations: int) -> list[str]:
    """Return the command that starts or resumes the run in a folder."""
    launcher = ["mpiexec", "-n", str(case.workers)] if case.workers > 1 else []
    switch = "--compile" if case.compile else "--no-compile"
    flags = [
        *FLAGS,
        *own_flags(case.algo),
        f"--algo={case.algo}",
        f"--env_id={case.env_id}",
        switch,
        f"--num_iters={iterations}",
        f"--data_dir={folder}",
    ]
    return [*launcher, sys.executable, str(ROOT / "main.py"), *flags, "--uuid=run", "--resume=auto"]


def find_workers(folder: Path) -> list[int]:
    """Return the process ids of the workers that train in a folder, without their launcher."""
    pids = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:  # the process has ended in the meantime
            continue
        if f"--data_dir={folder}".encode() in words and words[1:2] == [str(ROOT / "main.py").encode()]:
            pids.append(int(entry.name))
    return pids


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return what must be equal in a finished run and in one that was never killed."""
    import torch

    from milozero.experiment import checkpoint

    content = checkpoint.load(folder / "checkpoints/run/last.pt")
    for worker in content["workers"]:
        worker.pop("replay", None)  # how a replay buffer is divided into files depends on when it was saved
    state = [value for part in ("agent", "workers", "recent_episodes") for _, value in leaves(content[part])]
    parts = [value for value in state if isinstance(value, torch.Tensor)]
    rest = [value for value in state if not isinstance(value, torch.Tensor)]
    counters = {name: value for name, value in content["counters"].items() if name not in TIMES}
    with (folder / "logs/run/progress.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    return {
        "parameters": f"{zlib.crc32(b''.join(tensor.numpy().tobytes() for tensor in parts)):08x}",
        "rest": f"{zlib.crc32(repr(rest).encode()):08x}",
        "counters": counters,
        "rows": f"{len(rows)} {zlib.crc32(repr(rows).encode()):08x}",
        "state": json.loads((folder / "logs/run/status.json").read_text())["state"],
    }


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of every leaf in nested dictionaries and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        yield path, tree
        return
    for key, value in items:
        yield from leaves(value, f"{path}/{key}")


def run_to_the_end(case: Case, folder: Path, iterations: int) -> float:
    """Run until the end; return the duration in seconds."""
    started = time.monotonic()
    done = subprocess.run(
        command(case, folder, iterations), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        sys.exit(f"{case.name}: a run in {folder} failed with exit code {done.returncode}:\n{done.stderr}")
    return time.monotonic() - started


def strike(case: Case, folder: Path, iterations: int, after: float, chance: random.Random, saved: int = 0) -> bool:
    """Start the run, kill or stop it `after` seconds past a checkpoint; return whether it was still running.

    Args:
        case: the run and what to strike.
        folder: data folder of the run.
        iterations: length of the run.
        after: seconds from the start, or from the time when iteration `saved` is saved.
        chance: source of random victims.
        saved: iteration of that checkpoint; 0 for the start.
    """
    process = subprocess.Popen(
        command(case, folder, iterations), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while saved_iteration(folder) < saved and process.poll() is None:
        time.sleep(0.01)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        pass
    else:
        return False
    workers = find_workers(folder)
    how = chance.choice(["a worker", "the launcher", "SIGUSR1"]) if case.how == "anything" else case.how
    victim = chance.choice(workers) if how == "a worker" and workers else process.pid
    with contextlib.suppress(ProcessLookupError):  # the process has just ended
        os.kill(victim, signal.SIGUSR1 if how == "SIGUSR1" else signal.SIGKILL)
    process.wait(120)
    deadline = time.monotonic() + 60
    while find_workers(folder):
        if time.monotonic() > deadline:
            sys.exit(
                f"{case.name}: workers of {folder} are still running after the job ended: {find_workers(folder)}"
            )
        time.sleep(0.1)
    return True


def saved_iteration(folder: Path) -> int:
    """Return the iteration that a killed run can resume from; 0 if there is none."""
    path = folder / "logs/run/status.json"
    return (json.loads(path.read_text())["saved_iteration"] or 0) if path.exists() else 0


def trained_seconds(folder: Path) -> float:
    """Return the seconds that a run trained, without start-up and shutdown."""
    with (folder / "logs/run/progress.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["seconds"])


def torture(
    case: Case,
    strikes: int,
    iterations: int,
    chance: random.Random,
    log: Any = print,
    each: int = 3,
    *,
    after_save: bool = False,
) -> dict[str, Any]:
    """Strike runs up to `each` times, let them finish and compare them; return the row of the table.

    Args:
        case: the run and what to strike.
        strikes: minimum number of strikes after which a run resumes from a checkpoint. Strikes before the first
            checkpoint only test start-up and are counted separately.
        iterations: length of the runs.
        chance: source of random moments and victims.
        log: called with a message about each run.
        each: maximum number of strikes per run.
        after_save: strike soon after a checkpoint: fewer strikes are wasted, and none occurs during start-up.
    """
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference"
        if case.compile:  # fills the cache of compiled code
            run_to_the_end(case, Path(scratch) / "first", iterations)
        seconds = run_to_the_end(case, reference, iterations)
        start = seconds - trained_seconds(reference)  # start-up and shutdown
        expected = fingerprint(reference)
        if each > 1:
            run_to_the_end(case, Path(scratch) / "again", iterations)
            if fingerprint(Path(scratch) / "again") != expected:
                sys.exit(f"{case.name}: two runs that were never killed differ")
        equal, early, runs = 0, 0, 0
        resumed_from: list[int] = []
        while len(resumed_from) < strikes:
            runs += 1
            folder = Path(scratch) / f"run{runs}"
            reached: list[int] = []  # iteration that it can resume from, after each strike
            while len(reached) < each and 0 <= (reached or [0])[-1] < iterations:
                left = 1.0 - (reached or [0])[-1] / iterations
                moment = chance.uniform(start if reached else 0.5, start + (seconds - start) * left)
                if after_save:
                    saved = (reached or [0])[-1] + chance.choice([1, 2]) * SAVE_FREQUENCY
                    struck = strike(case, folder, iterations, chance.uniform(0.0, 0.2), chance, saved)
                else:
                    struck = strike(case, folder, iterations, moment, chance)
                reached += [saved_iteration(folder) if struck else iterations]
                early += reached[-1] == 0
                resumed_from += [reached[-1]] * (0 < reached[-1] < iterations)
            run_to_the_end(case, folder, iterations)
            actual = fingerprint(folder)
            equal += actual == expected
            if actual != expected:
                log(f"DIFFERENT: {case.name}, struck after iterations {reached}: got {actual}, expected {expected}")
            log(f"{case.name}, {case.how}: struck; iterations saved at each strike: {reached}")
    return {
        "what": case.name,
        "struck": case.how,
        "runs": runs,
        "early": early,
        "resumed_from": sorted(resumed_from),
        "equal": equal,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| run | killed or asked to stop | times resumed (after iteration) | times killed before the first save "
        "| bit-identical runs |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        resumed = row["resumed_from"]
        span = f" ({resumed[0]}–{resumed[-1]})" if resumed else ""
        cells = (
            row["what"],
            row["struck"],
            f"{len(resumed)}{span}",
            row["early"],
            f"{row['equal']} of {row['runs']}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def save(row: dict[str, Any]) -> None:
    """Save a row in place of its previous result, and update the table in the docs."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    indices = [
        index for index, old in enumerate(rows) if (old["what"], old["struck"]) == (row["what"], row["struck"])
    ]
    index = indices[0] if indices else len(rows)
    rows[index : index + 1] = [row]
    RESULTS.write_text(json.dumps(rows) + "\n")
    before, mark, rest = PAGE.read_text().partition("<!-- torture -->\n")
    after = rest.partition("<!-- /torture -->")[2]
    PAGE.write_text(f"{before}{mark}{table(rows)}\n<!-- /torture -->{after}")


def main() -> int:
    """Kill and resume runs of the algorithms; return 1 if a result differs."""
    from milozero.agents import AGENTS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strikes", type=int, default=20, help="minimum strikes per row after which a run resumes")
    parser.add_argument("--iterations", type=int, default=40, help="length of the runs")
    parser.add_argument("--seed", type=int, default=None, help="seed of the random moments (default: random)")
    parser.add_argument("--algos", nargs="+", choices=sorted(AGENTS), default=sorted(AGENTS))
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"moments from --seed={seed}", flush=True)
    rows: list[dict[str, Any]] = []
    for case in cases(options.algos):
        chance = random.Random(f"{seed} {case}")
        # The start of a compiled run takes most of its time, and strikes then test nothing else.
        rows.append(torture(case, options.strikes, options.iterations, chance, after_save=case.compile))
        print(table(rows[-1:]), flush=True)
        save(rows[-1])
    return int(any(row["equal"] < row["runs"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
