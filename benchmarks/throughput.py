"""Compare environment steps per second of training with Stable-Baselines3, CleanRL's style and bare physics.

The cases alternate within each repeat, because machines are noisy; the tables show medians, and ratios within one
repeat. Every trainer has the same networks (two tanh layers of 64 units each for policy and value function), 2048
steps per iteration and worker, minibatches of 64, 10 epochs and one thread. This project's runs, and the one in
CleanRL's style, also normalize observations and rewards. Warm-up iterations, which include compilation, and the final
evaluation are excluded.

    python benchmarks/throughput.py                 # prints the tables, writes results/throughput.json and .png
    python benchmarks/throughput.py --profile       # splits an iteration into its parts
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
ENVIRONMENT = os.environ | ONE_THREAD | AS_ROOT | {"PYTHONPATH": str(ROOT)}
WARM_UP = 4  # iterations

# name → environment → target: a lower bound for ratios, an upper bound for figures with a unit
TARGETS: dict[str, dict[str, float]] = {
    "1 worker / SB3's better": {"Hopper-v5": 3.5, "HalfCheetah-v5": 4.5},
    "1 worker / bare physics": {"Hopper-v5": 0.65, "HalfCheetah-v5": 0.42},
    "2 workers / 1 worker": {"Hopper-v5": 1.8, "HalfCheetah-v5": 1.8},
    "rollout / EnvPool alone": {"Hopper-v5": 0.8, "HalfCheetah-v5": 0.8},
    "one minibatch, µs": {"Hopper-v5": 170.0},
    "memory of a worker, MB": {"Hopper-v5": 600.0},
    "main.py -h, s": {"Hopper-v5": 1.0},
    "second start to the end of iteration 1, s": {"Hopper-v5": 12.0},
}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def milozero(env_id: str, workers: int, iterations: int, rollout_len: int = 2048, batch_size: int = 64) -> float:
    """Train with this project; return steps per second over all workers."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["mpiexec", "-n", str(workers)] if workers > 1 else []
        flags = [f"--env_id={env_id}", f"--num_iters={iterations}", f"--data_dir={folder}", "--uuid=bench"]
        flags += [f"--rollout_len={rollout_len}", f"--batch_size={batch_size}"]
        flags += ["--eval_frequency=0", "--eval_episodes=1", "--save_frequency=1000000", "--compile"]
        _run([*launcher, sys.executable, "main.py", "--task=train", *flags])
        rows = list(csv.DictReader((Path(folder) / "logs/bench/progress.csv").open()))
    first, last = rows[WARM_UP], rows[-2]
    steps = int(last["timesteps"]) - int(first["timesteps"])
    return steps / (float(last["seconds"]) - float(first["seconds"]))


def peer(script: str, env_id: str, num_envs: int, iterations: int, measured: str = "steps_per_second") -> float:
    """Run another trainer's script from this folder; return the figure that it measures."""
    flags = [f"--env_id={env_id}", f"--num_envs={num_envs}", f"--iterations={iterations}"]
    command = [sys.executable, str(ROOT / "benchmarks" / script), *flags]
    return float(json.loads(_run(command).splitlines()[-1])[measured])


def rollouts(env_id: str, way: str) -> float:
    """Return steps per second of rollouts without updates, measured by rollout.py."""
    command = [sys.executable, str(ROOT / "benchmarks/rollout.py"), f"--envs={env_id}", f"--way={way}"]
    return float(_run(command).splitlines()[-1])


def minibatch(env_id: str) -> float:
    """Return the duration of a minibatch's gradient and optimizer step in µs."""
    printed = _run([sys.executable, str(Path(__file__)), "--profile", f"--envs={env_id}"])
    return float(re.findall(r"one minibatch of \d+ takes (\d+) µs", printed)[-1])


def physics(env_id: str) -> float:
    """Return steps per second of bare ``mj_step`` with random actions, measured in a separate process."""
    return float(_run([sys.executable, str(Path(__file__)), "--physics", f"--envs={env_id}"]).splitlines()[-1])


def step_physics(env_id: str, seconds: float = 4.0) -> float:
    """Step `env_id` with bare ``mj_step`` for some seconds; return environment steps per second."""
    import mujoco
    import numpy as np

    from milozero import environments

    one = environments.make_env(env_id)
    one.reset(seed=0)
    base: Any = one.unwrapped
    controls = np.random.default_rng(0).uniform(-1, 1, (100, base.model.nu))
    k, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(50):
            if k % 20 == 0:  # short episodes, as at the start of training, in which it stays upright
                mujoco.mj_resetData(base.model, base.data)
            base.data.ctrl[:] = controls[k % 100]
            mujoco.mj_step(base.model, base.data, nstep=base.frame_skip)
            k += 1
    return k / (time.perf_counter() - started)


def cases(iterations: int) -> dict[str, Callable[[str], float]]:
    """Return a mapping from case to the function that measures it on an environment."""
    few = max(iterations // 4, 6)
    return {
        "MiloZero, 1 worker": lambda e: milozero(e, 1, iterations),
        "SB3, 8 envs": lambda e: peer("sb3_ppo.py", e, 8, few),
        "MiloZero, 2 workers": lambda e: milozero(e, 2, iterations),
        "SB3, 1 env": lambda e: peer("sb3_ppo.py", e, 1, few),
        "CleanRL's style, 8 envs": lambda e: peer("cleanrl_style_ppo.py", e, 8, few),
        "MiloZero's rollouts": lambda e: rollouts(e, "rollout"),
        "EnvPool alone, 16 envs": lambda e: rollouts(e, "envpool"),
        "mj_step alone": physics,
    }


def compare(env_ids: list[str], repeats: int, iterations: int) -> dict[str, Any]:
    """Measure all cases alternately; return environment → case → list of steps per second."""
    from rich.progress import Progress

    speeds: dict[str, dict[str, list[float]]] = {e: {name: [] for name in cases(iterations)} for e in env_ids}
    with Progress() as progress:
        task = progress.add_task("measuring", total=repeats * len(env_ids) * len(cases(iterations)))
        for _ in range(repeats):
            for env_id in env_ids:
                for name, measure in cases(iterations).items():
                    progress.update(task, description=f"{env_id}: {name}")
                    speeds[env_id][name].append(measure(env_id))
                    progress.advance(task)
    return speeds


def ratios(speeds: dict[str, list[float]]) -> dict[str, float]:
    """Return the main ratios: the median over repeats of the ratio within each repeat."""
    pairs = {
        "1 worker / SB3's better": ("MiloZero, 1 worker", ("SB3, 8 envs", "SB3, 1 env")),
        "1 worker / bare physics": ("MiloZero, 1 worker", ("mj_step alone",)),
        "2 workers / 1 worker": ("MiloZero, 2 workers", ("MiloZero, 1 worker",)),
        "1 worker / CleanRL's style": ("MiloZero, 1 worker", ("CleanRL's style, 8 envs",)),
        "rollout / EnvPool alone": ("MiloZero's rollouts", ("EnvPool alone, 16 envs",)),
    }
    result = {}
    for name, (above, below) in pairs.items():
        rows = zip(speeds[above], *(speeds[case] for case in below), strict=True)
        result[name] = statistics.median(row[0] / max(row[1:]) for row in rows)
    return result


def costs(env_id: str) -> dict[str, float]:
    """Measure the other figures in `TARGETS` on one environment."""
    from start import help_seconds, second_start  # beside this file

    seconds, memory = second_start(env_id)
    return {
        "one minibatch, µs": minibatch(env_id),
        "one minibatch of SB3, µs": peer("sb3_ppo.py", env_id, 8, 6, "minibatch_us"),
        "memory of a worker, MB": memory,
        "main.py -h, s": min(help_seconds() for _ in range(3)),
        "second start to the end of iteration 1, s": seconds,
    }


def verdict(name: str, env_id: str, value: float) -> str:
    """Format a figure and whether it meets its target."""
    bound = TARGETS.get(name, {}).get(env_id)
    if bound is None:
        return f"{value:.2f}"
    most = "/" not in name
    reached = value <= bound if most else value >= bound
    return f"{value:.2f} ({'at most' if most else 'at least'} {bound:g}: {'reached' if reached else 'MISSED'})"


def report(speeds: dict[str, dict[str, list[float]]], extra: dict[str, dict[str, float]], folder: Path) -> None:
    """Print the tables; save throughput.json and throughput.png."""
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

    folder.mkdir(exist_ok=True)
    content: dict[str, Any] = {
        e: {"steps_per_second": rows, "ratios": ratios(rows), "costs": extra.get(e, {})} for e, rows in speeds.items()
    }
    (folder / "throughput.json").write_text(json.dumps(content, indent=2) + "\n")
    console = Console()
    figure = Figure(figsize=(9, 2.6 * len(speeds)), layout="constrained")
    for axes, (env_id, rows) in zip(figure.subplots(len(speeds), squeeze=False)[:, 0], speeds.items(), strict=True):
        table = Table("steps per second", "median", "min", "max", title=env_id)
        medians = {name: statistics.median(values) for name, values in rows.items()}
        for name, values in rows.items():
            table.add_row(name, *(f"{value:,.0f}" for value in (medians[name], min(values), max(values))))
        console.print(table)
        for name, value in (content[env_id]["ratios"] | content[env_id]["costs"]).items():
            console.print(f"{name}: {verdict(name, env_id, value)}", highlight=False)
        colors = ["tab:blue" if "Milo" in name else "tab:gray" for name in medians]
        axes.barh(list(medians), list(medians.values()), color=colors)
        axes.invert_yaxis()
        axes.set(title=env_id, xlabel="environment steps per second")
    figure.savefig(folder / "throughput.png", dpi=100)
    console.print(f"wrote {folder / 'throughput.json'} and {folder / 'throughput.png'}")


def main() -> None:
    """Parse the command line and run the selected benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--iterations", type=int, default=60, help="this project's iterations; the baselines run a quarter"
    )
    parser.add_argument("--profile", action="store_true", help="split an iteration into its parts")
    parser.add_argument("--physics", action="store_true", help="only measure bare physics and print steps per second")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.physics:
        print(step_physics(args.envs[0]))
    elif args.profile:
        from profile_iteration import profile  # beside this file

        for env_id in args.envs:
            profile(env_id)
    else:
        speeds = compare(args.envs, args.repeats, args.iterations)
        report(speeds, {args.envs[0]: costs(args.envs[0])}, RESULTS)


if __name__ == "__main__":
    main()
