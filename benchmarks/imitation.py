"""Compare each imitation method with its expert, by the number of demonstrations.

    python benchmarks/imitation.py [--only gail ...] [--envs Hopper-v5 ...] [--demos 1 4 16] [--seeds 3] [--jobs 2]

Trains the missing runs, one core per run, and evaluates their last policies for twenty episodes; interrupted runs are
resumed. ``--only controls`` selects the runs that show how much the reward's sign alone achieves. Saves
benchmarks/results/imitation.json after each run, then updates the tables of docs/imitation.md and README.md, and
assets/images/imitation.png. The expert's return is the mean over the sixteen demonstrations in data/demos.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imitation_tables as tables
from trainings import ROOT, train_and_evaluate, update_page, write_rows

sys.path.insert(0, str(ROOT))

from milozero.demonstrations import dataset as demos

DEMOS = ROOT / "data" / "demos"
RESULTS = ROOT / "benchmarks" / "results" / "imitation.json"
PAGE = ROOT / "docs" / "imitation.md"
README = ROOT / "README.md"
PICTURE = ROOT / "assets" / "images" / "imitation.png"
# environment → training steps of on-policy adversarial methods
ENVIRONMENTS = {"Hopper-v5": 500_000, "HalfCheetah-v5": 1_500_000, "Walker2d-v5": 1_500_000}
EPISODES = 20
# Policy settings of all adversarial methods, the same as the experts'.
POLICY = (
    *("--num_envs=8", "--rollout_len=2048", "--vf_coef=0.25", "--clip_value_loss", "--no-normalize_advantages"),
    *("--recompute_advantages", "--log_std_init=-0.5", "--save_frequency=200", "--keep_checkpoints=1"),
)
GAIL = ("--algo=gail", *POLICY, "--demo_subsampling=20")
AIRL = ("--algo=airl", *POLICY)
DAC = (f"--config={ROOT / 'tasks/train_mujoco_dac.yaml'}", "--keep_checkpoints=1")
# SQIL and IQ-Learn: the networks and the replay ratio of the recipe of SAC
SOFT_Q = (
    *("--num_envs=16", "--rollout_len=4096", "--train_freq=256", "--updates_per_step=0.25", "--batch_size=256"),
    *("--p_perception_stack=mlp_128", "--q_perception_stack=mlp_128", "--p_lr=1e-3", "--q_lr=1e-3"),
    *("--eval_frequency=5", "--save_frequency=20", "--keep_checkpoints=1"),
)
# name → flags of the rewards that the controls compare
REWARDS = {
    "": (),
    "unbiased reward": ("--d_reward=unbiased",),
    "unbiased reward, absorbing": ("--d_reward=unbiased", "--d_absorbing"),
}
HOPPER, TWO = ("Hopper-v5",), ("Hopper-v5", "HalfCheetah-v5")


@dataclass(frozen=True)
class Method:
    """A method's flags and the cases that it is trained on."""

    flags: Sequence[str]
    demos: Sequence[int]
    envs: Sequence[str] = tuple(ENVIRONMENTS)
    steps: int = 0  # of training; 0: those of `ENVIRONMENTS`
    reward_method: str = ""  # an earlier method, whose run provides the reward; demos only set the target


METHODS = {
    "bc": Method(("--algo=bc", "--rollout_len=256", "--num_envs=8", "--num_iters=60"), demos=(1, 4, 16)),
    "gail": Method(GAIL, demos=(1, 4, 16)),
    "airl": Method(AIRL, demos=(16,), envs=TWO),
    "airl, warm start": Method((*AIRL, "--bc_pretrain_epochs=50"), demos=(16,), envs=TWO),
    "ppo on airl's reward": Method(("--algo=ppo", *POLICY), demos=(16,), envs=HOPPER, reward_method="airl"),
    "dac": Method(DAC, demos=(1,), steps=200_000),
    "sqil": Method(("--algo=sqil", *SOFT_Q), demos=(4,), envs=TWO, steps=500_000),
    "iq": Method(("--algo=iq", *SOFT_Q), demos=(4,), envs=TWO, steps=500_000),
}


def control_methods() -> Iterator[tuple[str, Method]]:
    """Yield name and method of each control: by reward, on true and on shuffled demonstrations."""
    for algo, flags, number in (("gail", GAIL, 4), ("airl", AIRL, 16)):
        for reward, more in REWARDS.items():
            name = f"{algo}, {reward}".removesuffix(", ")
            yield name, Method((*flags, *more), (number,), HOPPER)
            yield f"{name}, shuffled", Method((*flags, *more, "--d_ablation=shuffled"), (number,), HOPPER)
    for name in ("dac", "sqil", "iq"):  # rewarded in one way
        method = METHODS[name]
        yield name, dataclasses.replace(method, envs=HOPPER)
        yield (
            f"{name}, shuffled",
            dataclasses.replace(method, flags=(*method.flags, "--d_ablation=shuffled"), envs=HOPPER),
        )


CONTROLS = dict(control_methods())
ALL = CONTROLS | METHODS


@dataclass(frozen=True)
class Case:
    """One run."""

    method: str
    env_id: str
    demos: int
    seed: int

    @property
    def name(self) -> str:
        """The name of the experiment."""
        method = re.sub("[^a-z]+", "-", self.method.replace("'", ""))
        return f"{method}.{self.env_id}.demos{self.demos:02}.seed{self.seed:02}"

    @property
    def teacher(self) -> Case | None:
        """The run that provides the reward, if any."""
        method = ALL[self.method].reward_method
        return dataclasses.replace(self, method=method) if method else None


def cases(methods: Mapping[str, Method], envs: Sequence[str], numbers: Sequence[int], seeds: int) -> Iterator[Case]:
    """Yield the selected runs, one seed of each before the next seed."""
    for seed in range(seeds):
        for name, method in methods.items():
            for env_id in method.envs:
                for number in method.demos:
                    if env_id in envs and number in numbers and (DEMOS / env_id).exists():
                        yield Case(name, env_id, number, seed)


def measure(case: Case, data: Path) -> dict[str, Any]:
    """Train a policy, or resume its training, and evaluate it; return its row."""
    method = ALL[case.method]
    flags = [f"--env_id={case.env_id}", f"--num_timesteps={method.steps or ENVIRONMENTS[case.env_id]}"]
    flags += [f"--expert_path={DEMOS / case.env_id}", f"--num_demos={case.demos}", *method.flags]
    if teacher := case.teacher:
        flags.append(f"--reward_path={data}/checkpoints/{teacher.name}")
    evaluation, progress = train_and_evaluate(
        case.name, flags, seed=case.seed, eval_seed=case.seed, episodes=EPISODES, data=data
    )
    steps, seconds = int(progress[-1]["timesteps"]), round(float(progress[-1]["seconds"]))
    evaluations = [
        [int(row["timesteps"]), round(float(row["seconds"])), round(float(row["eval_return"]), 1)]
        for row in progress
        if row.get("eval_return")
    ]
    return {
        **vars(case),
        "return": round(evaluation["return_mean"], 1),
        "steps": steps,
        "seconds": seconds,
        "evaluations": evaluations,  # steps, seconds and mean return of each evaluation during training
    }


def experts() -> dict[str, float]:
    """Return the mean return of each environment's demonstrations."""
    folders = [DEMOS / env_id for env_id in ENVIRONMENTS if (DEMOS / env_id).exists()]
    return {folder.name: statistics.fmean(e.return_ for e in demos.read_demos(str(folder), 0)) for folder in folders}


def main() -> int:
    """Train and evaluate the missing runs and save all results. Return 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*ALL, "controls"], default=list(ALL))
    parser.add_argument("--envs", nargs="+", choices=list(ENVIRONMENTS), default=list(ENVIRONMENTS))
    parser.add_argument("--demos", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data" / "imitation")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    done = {tuple(row[key] for key in ("method", "env_id", "demos", "seed")) for row in rows}
    lock = threading.Lock()

    started: dict[Case, Future[None]] = {}

    def one(case: Case) -> None:
        if case.teacher in started:  # submitted earlier, so this cannot deadlock
            started[case.teacher].result()
        row = measure(case, options.data_dir)
        with lock:
            rows.append(row)
            rows.sort(key=lambda r: (r["method"], r["env_id"], r["demos"], r["seed"]))
            write_rows(RESULTS, rows)
            print(f"{case.name}: {row['return']}", flush=True)

    methods = CONTROLS if "controls" in options.only else {}
    methods = methods | {name: ALL[name] for name in options.only if name != "controls"}  # with all their cases
    selected = cases(methods, options.envs, options.demos, options.seeds)
    with ThreadPoolExecutor(options.jobs) as pool:
        for case in selected:
            if tuple(vars(case).values()) not in done:
                started[case] = pool.submit(one, case)
    failed = [error for each in started.values() if (error := each.exception())]
    for error in failed:
        print(f"a run failed: {error}", flush=True)
    best = experts()
    numbers, control_numbers = ({name: method.demos for name, method in each.items()} for each in (METHODS, CONTROLS))
    for command, table in {
        "imitation.py": tables.returns(rows, best, numbers),
        "imitation.py --only dac": tables.speed(rows, best, numbers),
        "imitation.py --only controls": tables.controls(rows, best, control_numbers),
    }.items():
        print(table)
        update_page(PAGE, command, table)
    update_page(README, "imitation.py", tables.summary(rows, best))
    if rows:
        tables.plot(rows, best, list(METHODS), PICTURE)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
