"""The benchmark of PPO from a cloned policy."""

import contextlib
import json
import sys
from concurrent.futures import Future


def test_fine_tuning_counts_steps_to_the_first_evaluation_above_the_expert():
    import fine_tuning

    progress = [
        {"timesteps": str(steps), "eval_return": value}
        for steps, value in ((10, ""), (20, "3.0"), (30, ""), (40, "5.5"), (50, "6.0"))
    ]
    assert [fine_tuning.steps_to_exceed(progress, expert) for expert in (2.0, 3.0, 5.5, 6.0)] == [20, 40, 50, None]
    rows = [
        {"start": start, "seed": seed, "steps": steps}
        for start, each in {"scratch": (4000, None, 2000), "cloned policy": (1000, 10, 3000)}.items()
        for seed, steps in enumerate(each)
    ]
    assert fine_tuning.table(rows).splitlines()[2:] == [
        "| scratch | 4,000 (4,000, never, 2,000) | 100 |",
        "| cloned policy | 1,000 (1,000, 10, 3,000) | 25 |",
    ]
    never = [row | {"steps": None} for row in rows if row["start"] == "scratch"]
    assert fine_tuning.table(never).splitlines()[2:] == [
        "| scratch | never (never, never, never) | – |",
        "| cloned policy | – | – |",
    ]


class InTurn(contextlib.nullcontext):
    """A pool that calls each function when it is submitted."""

    def __enter__(self):
        return self

    def submit(self, function, *args):
        future = Future()
        future.set_result(function(*args))
        return future


def test_fine_tuning_trains_only_missing_runs(monkeypatch, tmp_path):
    import fine_tuning
    import trainings

    from milozero.main import main

    commands = []

    def run(*arguments, log):
        commands.append(arguments)
        assert main(list(arguments)) == 0

    small = ("--num_envs=2", "--rollout_len=128", "--num_iters=2", "--epochs=1", "--eval_episodes=1", "--no-compile")
    page = tmp_path / "imitation.md"
    page.write_text("<!-- made by: python benchmarks/fine_tuning.py -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(trainings, "run", run)
    for name, value in {
        "ThreadPoolExecutor": InTurn,  # main() catches signals, which only the main thread can
        "BC": (*fine_tuning.BC, *small),
        "PPO": (*fine_tuning.PPO, *small),
        "RESULTS": tmp_path / "fine_tuning.json",
        "PAGE": page,
        "expert_return": lambda: 0.0,
    }.items():
        monkeypatch.setattr(fine_tuning, name, value)
    monkeypatch.setattr(sys, "argv", ["fine_tuning.py", "--seeds=1", "--jobs=1", f"--data_dir={tmp_path}/data"])
    assert fine_tuning.main() == 0
    rows = json.loads(fine_tuning.RESULTS.read_text())
    assert [(r["start"], r["seed"], r["steps"]) for r in rows] == [("cloned policy", 20, 256), ("scratch", 20, 256)]
    assert page.read_text().count("| 256 (256) | 100 |") == 2
    assert "--init_value_iters=5" in commands[-1]
    assert len(commands) == 3
    assert fine_tuning.main() == 0  # trains nothing
    assert len(commands) == 3
