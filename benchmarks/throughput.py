"""Environment steps per second of training, against Stable-Baselines3 and against bare physics, in one run.

The cases alternate, repeat by repeat, since machines are noisy; the table shows medians and ratios of the same
run. Every trainer has the same networks (two tanh layers of 64 for policy and for value), 2048 steps an iteration
and worker, minibatches of 64 and 10 epochs, and one thread. This project's runs normalise observations and rewards
besides. Iterations before the warm-up's end, which compile, do not count; nor does the evaluation at the end.

    python benchmarks/throughput.py                 # the table, benchmarks/results/throughput.json and .png
    python benchmarks/throughput.py --profile       # where an iteration's time goes
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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
WARM_UP = 4  # iterations


def _run(command: list[str]) -> str:
    environment = os.environ | ONE_THREAD | AS_ROOT | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def milozero(env_id: str, workers: int, iterations: int, rollout_len: int = 2048, batch_size: int = 64) -> float:
    """Return steps per second of this project, over all workers."""
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


def sb3(env_id: str, num_envs: int, iterations: int) -> float:
    """Return steps per second of Stable-Baselines3."""
    script = str(ROOT / "benchmarks/sb3_ppo.py")
    flags = [f"--env_id={env_id}", f"--num_envs={num_envs}", f"--iterations={iterations}"]
    return float(json.loads(_run([sys.executable, script, *flags]).splitlines()[-1])["steps_per_second"])


def physics(env_id: str, kind: str) -> float:
    """Return steps per second of random actions, without any learning (in a process of its own)."""
    flags = [f"--physics={kind}", f"--envs={env_id}"]
    return float(_run([sys.executable, str(Path(__file__)), *flags]).splitlines()[-1])


def step_physics(env_id: str, kind: str, seconds: float = 4.0) -> float:
    """Step `env_id` by bare ``mj_step`` or through EnvPool, 16 environments, for a while."""
    import numpy as np

    rng = np.random.default_rng(0)
    if kind == "envpool":
        import environments

        env = environments.make_vector_env(env_id, 16, 0)
        actions = rng.uniform(-1, 1, (100, 16, *env.action_shape)).astype(np.float32)
        env.reset()
        advance: Callable[[int], Any] = lambda k: env.step(actions[k % 100])  # noqa: E731
        per_call = 16
    else:
        import mujoco

        import environments

        one = environments.make_env(env_id)
        one.reset(seed=0)
        base: Any = one.unwrapped
        controls = rng.uniform(-1, 1, (100, base.model.nu))

        def advance(k: int) -> None:
            if k % 20 == 0:  # as short as a beginner's episodes, so that it stays upright
                mujoco.mj_resetData(base.model, base.data)
            base.data.ctrl[:] = controls[k % 100]
            mujoco.mj_step(base.model, base.data, nstep=base.frame_skip)

        per_call = 1
    k, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(50):
            advance(k)
            k += 1
    return k * per_call / (time.perf_counter() - started)


def cases(iterations: int) -> dict[str, Callable[[str], float]]:
    """Return name → measurement of an environment."""
    return {
        "MiloZero, 1 worker": lambda e: milozero(e, 1, iterations),
        "SB3, 8 envs": lambda e: sb3(e, 8, max(iterations // 4, 6)),
        "MiloZero, 2 workers": lambda e: milozero(e, 2, iterations),
        "SB3, 1 env": lambda e: sb3(e, 1, max(iterations // 4, 6)),
        "EnvPool alone, 16 envs": lambda e: physics(e, "envpool"),
        "mj_step alone": lambda e: physics(e, "mujoco"),
    }


def compare(env_ids: list[str], repeats: int, iterations: int) -> dict[str, Any]:
    """Return environment → case → list of steps per second, the cases taken in turn."""
    from rich.progress import Progress

    found: dict[str, dict[str, list[float]]] = {e: {name: [] for name in cases(iterations)} for e in env_ids}
    with Progress() as progress:
        task = progress.add_task("measuring", total=repeats * len(env_ids) * len(cases(iterations)))
        for _ in range(repeats):
            for env_id in env_ids:
                for name, measure in cases(iterations).items():
                    progress.update(task, description=f"{env_id}: {name}")
                    found[env_id][name].append(measure(env_id))
                    progress.advance(task)
    return found


def ratios(found: dict[str, list[float]]) -> dict[str, float]:
    """Return the ratios that matter: medians over the repeats of the ratio within each repeat."""
    pairs = {
        "1 worker / SB3's better": ("MiloZero, 1 worker", ("SB3, 8 envs", "SB3, 1 env")),
        "1 worker / bare physics": ("MiloZero, 1 worker", ("mj_step alone",)),
        "2 workers / 1 worker": ("MiloZero, 2 workers", ("MiloZero, 1 worker",)),
    }
    result = {}
    for name, (above, below) in pairs.items():
        rows = zip(found[above], *(found[case] for case in below), strict=True)
        result[name] = statistics.median(row[0] / max(row[1:]) for row in rows)
    return result


def report(found: dict[str, dict[str, list[float]]], folder: Path) -> None:
    """Print the table; write throughput.json and throughput.png."""
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

    folder.mkdir(exist_ok=True)
    content = {e: {"steps_per_second": rows, "ratios": ratios(rows)} for e, rows in found.items()}
    (folder / "throughput.json").write_text(json.dumps(content, indent=2) + "\n")
    console = Console()
    figure = Figure(figsize=(9, 2.6 * len(found)), layout="constrained")
    for axes, (env_id, rows) in zip(figure.subplots(len(found), squeeze=False)[:, 0], found.items(), strict=True):
        table = Table("steps per second", "median", "min", "max", title=env_id)
        medians = {name: statistics.median(values) for name, values in rows.items()}
        for name, values in rows.items():
            table.add_row(name, *(f"{value:,.0f}" for value in (medians[name], min(values), max(values))))
        console.print(table)
        for name, value in content[env_id]["ratios"].items():
            console.print(f"{name}: {value:.2f}")
        colours = ["tab:blue" if "Milo" in name else "tab:gray" for name in medians]
        axes.barh(list(medians), list(medians.values()), color=colours)
        axes.invert_yaxis()
        axes.set(title=env_id, xlabel="environment steps per second")
    figure.savefig(folder / "throughput.png", dpi=100)
    console.print(f"wrote {folder / 'throughput.json'} and {folder / 'throughput.png'}")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=60, help="of this project; SB3 gets a quarter")
    parser.add_argument("--profile", action="store_true", help="split an iteration into its parts instead")
    parser.add_argument("--physics", choices=("envpool", "mujoco"), help="step physics alone and print the speed")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.physics:
        print(step_physics(args.envs[0], args.physics))
    elif args.profile:
        from profile_iteration import profile  # beside this file

        for env_id in args.envs:
            profile(env_id)
    else:
        report(compare(args.envs, args.repeats, args.iterations), RESULTS)


if __name__ == "__main__":
    main()
