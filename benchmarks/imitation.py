"""Compare each imitation method with its expert, by the number of demonstrations.

    python benchmarks/imitation.py [--only gail ...] [--envs Hopper-v5 ...] [--demos 1 4 16] [--seeds 3] [--jobs 2]

Trains the missing runs, one core per run, and evaluates their last policies for twenty episodes; interrupted runs are
resumed. Saves benchmarks/results/imitation.json after each run, then updates the table of docs/imitation.md and
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
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainings import ROOT, train_and_evaluate

sys.path.insert(0, str(ROOT))

from milozero.demonstrations import dataset as demos

DEMOS = ROOT / "data" / "demos"
RESULTS = ROOT / "benchmarks" / "results" / "imitation.json"
PAGE = ROOT / "docs" / "imitation.md"
PICTURE = ROOT / "assets" / "images" / "imitation.png"
TABLE = re.compile("(?<=<!-- made by: python benchmarks/imitation.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
# environment → training steps of adversarial methods
ENVIRONMENTS = {"Hopper-v5": 500_000, "HalfCheetah-v5": 1_500_000, "Walker2d-v5": 1_500_000}
EPISODES = 20
# Policy settings of all adversarial methods, the same as the experts'.
POLICY = (
    *("--num_envs=8", "--rollout_len=2048", "--vf_coef=0.25", "--clip_value_loss", "--no-normalize_advantages"),
    *("--recompute_advantages", "--log_std_init=-0.5", "--save_frequency=200", "--keep_checkpoints=1"),
)
GAIL = ("--algo=gail", *POLICY, "--demo_subsampling=20")
UNBIASED = (*GAIL, "--d_reward=unbiased")
AIRL = ("--algo=airl", *POLICY)
HOPPER, TWO = ("Hopper-v5",), ("Hopper-v5", "HalfCheetah-v5")


@dataclass(frozen=True)
class Method:
    """A method's flags and the cases that it is trained on."""

    flags: Sequence[str]
    demos: Sequence[int]
    envs: Sequence[str] = tuple(ENVIRONMENTS)
    reward_method: str = ""  # an earlier method, whose run provides the reward; demos only set the target


METHODS = {
    "bc": Method(("--algo=bc", "--rollout_len=256", "--num_envs=8", "--num_iters=60"), demos=(1, 4, 16)),
    "gail": Method(GAIL, demos=(1, 4, 16)),
    "gail, shuffled": Method((*GAIL, "--d_ablation=shuffled"), demos=(4,), envs=HOPPER),
    "gail, unbiased reward": Method(UNBIASED, demos=(4,), envs=HOPPER),
    "gail, unbiased reward, shuffled": Method((*UNBIASED, "--d_ablation=shuffled"), demos=(4,), envs=HOPPER),
    "airl": Method(AIRL, demos=(16,), envs=HOPPER),
    "airl, shuffled": Method((*AIRL, "--d_ablation=shuffled"), demos=(16,), envs=HOPPER),
    "airl, warm start": Method((*AIRL, "--bc_pretrain_epochs=50"), demos=(16,), envs=TWO),
    "ppo on airl's reward": Method(("--algo=ppo", *POLICY), demos=(16,), envs=HOPPER, reward_method="airl"),
}


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
        method = METHODS[self.method].reward_method
        return dataclasses.replace(self, method=method) if method else None


def cases(only: Sequence[str], envs: Sequence[str], numbers: Sequence[int], seeds: int) -> Iterator[Case]:
    """Yield the selected runs, one seed of each before the next seed."""
    for seed in range(seeds):
        for method in only:
            for env_id in METHODS[method].envs:
                for number in METHODS[method].demos:
                    if env_id in envs and number in numbers and (DEMOS / env_id).exists():
                        yield Case(method, env_id, number, seed)


def measure(case: Case, data: Path) -> dict[str, Any]:
    """Train a policy, or resume its training, and evaluate it; return its row."""
    flags = [f"--env_id={case.env_id}", f"--num_timesteps={ENVIRONMENTS[case.env_id]}"]
    flags += [f"--expert_path={DEMOS / case.env_id}", f"--num_demos={case.demos}", *METHODS[case.method].flags]
    if teacher := case.teacher:
        flags.append(f"--reward_path={data}/checkpoints/{teacher.name}")
    evaluation, progress = train_and_evaluate(
        case.name, flags, seed=case.seed, eval_seed=case.seed, episodes=EPISODES, data=data
    )
    steps, seconds = int(progress[-1]["timesteps"]), round(float(progress[-1]["seconds"]))
    return {**vars(case), "return": round(evaluation["return_mean"], 1), "steps": steps, "seconds": seconds}


def experts() -> dict[str, float]:
    """Return the mean return of each environment's demonstrations."""
    folders = [DEMOS / env_id for env_id in ENVIRONMENTS if (DEMOS / env_id).exists()]
    return {folder.name: statistics.fmean(e.return_ for e in demos.read_demos(str(folder), 0)) for folder in folders}


def table(rows: Sequence[dict[str, Any]], expert: dict[str, float]) -> str:
    """Return the means over seeds as a Markdown table."""
    lines = [
        "| environment | method | demonstrations | seeds | return | % of the expert's (each seed) | steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for env_id, best in expert.items():
        lines.append(f"| {env_id} | expert | | | {best:,.0f} | 100 | |")
        for method in METHODS:
            for number in METHODS[method].demos:
                runs = [r for r in rows if (r["env_id"], r["method"], r["demos"]) == (env_id, method, number)]
                if runs:
                    returns = [row["return"] for row in sorted(runs, key=lambda row: row["seed"])]
                    mean, shares = statistics.fmean(returns), ", ".join(f"{100 * r / best:.0f}" for r in returns)
                    steps = f"{runs[0]['steps']:,}" if not method.startswith("bc") else "–"
                    cells = (
                        env_id,
                        method,
                        number,
                        len(returns),
                        f"{mean:,.0f}",
                        f"{100 * mean / best:.0f} ({shares})",
                    )
                    lines.append(f"| {' | '.join(map(str, cells))} | {steps} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[dict[str, Any]], expert: dict[str, float]) -> None:
    """Plot the percentage of the expert's return against the number of demonstrations."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(expert), figsize=(3.6 * len(expert), 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (env_id, best) in zip(panels[0], expert.items(), strict=True):
        axes.axhline(100, color="black", linewidth=0.9, linestyle=(0, (6, 3)), label="expert")
        for index, method in enumerate(METHODS):
            if all(row["method"] != method for row in rows):
                continue
            numbers = sorted({r["demos"] for r in rows if (r["env_id"], r["method"]) == (env_id, method)})
            shares = [
                [
                    100 * r["return"] / best
                    for r in rows
                    if (r["env_id"], r["method"], r["demos"]) == (env_id, method, number)
                ]
                for number in numbers
            ]
            positions = [number * 1.04 ** (index - len(METHODS) / 2) for number in numbers]  # avoid overlaps
            color = f"C{index}"
            label = {"marker": "o", "markersize": 4, "color": color, "label": method}
            axes.plot(positions, [statistics.fmean(each) for each in shares], **label)
            for number, each in zip(positions, shares, strict=True):
                axes.plot([number] * len(each), each, ".", color=color, markersize=3, alpha=0.6)
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 4, 16], ["1", "4", "16"])
        axes.set(title=env_id, xlabel="demonstrations", xlim=(0.8, 20))
        axes.grid(alpha=0.3)
    all_shares = [100.0 * row["return"] / expert[row["env_id"]] for row in rows]
    panels[0][0].set(
        ylabel="% of the expert's return", ylim=(min(*all_shares, 0.0) * 1.08, max(*all_shares, 100.0) * 1.08)
    )
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(PICTURE, dpi=150)


def main() -> int:
    """Train and evaluate the missing runs and save all results. Return 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS))
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
            RESULTS.write_text("[\n" + ",\n".join(f" {json.dumps(each)}" for each in rows) + "\n]\n")
            print(f"{case.name}: {row['return']}", flush=True)

    selected = cases(options.only, options.envs, options.demos, options.seeds)
    with ThreadPoolExecutor(options.jobs) as pool:
        for case in selected:
            if tuple(vars(case).values()) not in done:
                started[case] = pool.submit(one, case)
    failed = [error for each in started.values() if (error := each.exception())]
    for error in failed:
        print(f"a run failed: {error}", flush=True)
    best = experts()
    print(table(rows, best))
    PAGE.write_text(TABLE.sub(lambda _: table(rows, best), PAGE.read_text()))
    if rows:
        plot(rows, best)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
