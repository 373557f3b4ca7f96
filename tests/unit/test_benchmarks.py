"""The benchmarks' models, tables and bookkeeping, without long runs."""

import contextlib
import json
import math
import statistics
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch


def network(**changes):
    """Return a model whose iteration of 2,048 steps and 320 minibatches takes a second with one worker."""
    from scaling import Model

    ideal = {"operator": 0.0, "latency": 0.0, "bandwidth": math.inf, "far_latency": 0.0, "far_bandwidth": math.inf}
    compute = {
        "step": 0.68 / 2048,
        "rollout_deviation": 0.0,
        "minibatch": 1e-3,
        "row": 0.0,
        "minibatch_deviation": 0.0,
    }
    return Model(**(compute | ideal | {"cores": 4, "parameters": 10_000} | changes))


def test_scaling_is_ideal_without_communication_and_waiting():
    assert network().speed(1) == pytest.approx(2048)
    assert network().speed(512) == pytest.approx(512 * 2048)


def test_each_round_of_an_all_reduce_costs_a_message_within_or_between_nodes():
    model = network(latency=1e-6, bandwidth=4e10, far_latency=1e-5, far_bandwidth=4e9)
    assert model.all_reduce(1) == 0.0
    assert model.all_reduce(4) == pytest.approx(2 * 2e-6)
    assert model.all_reduce(16) == pytest.approx(2 * 2 * 2e-6 + 2 * 2e-5)  # reduce within nodes, exchange, broadcast


def test_waiting_grows_with_workers_and_shrinks_with_longer_rollouts():
    from scaling import expected_largest

    assert expected_largest(1) == 0.0
    assert expected_largest(2) == pytest.approx(0.564, abs=0.03)  # 1 / sqrt(pi)
    model = network(rollout_deviation=0.1)
    waits = [model.iteration(n, 2048, 64) - 1.0 for n in (2, 16, 128)]
    assert waits == sorted(waits)
    assert model.speed(16, 8192) / model.speed(1, 8192) > model.speed(16) / model.speed(1)


def test_fits_recover_the_parameters_of_exact_data():
    from scaling import SIZES, fit_minibatch, fit_network

    assert fit_minibatch({16: 1.16, 64: 1.64, 256: 3.56}) == pytest.approx((1.0, 0.01))
    latency, bandwidth = fit_network([5e-6 + size * 4 / 2e9 for size in SIZES])
    assert (latency, bandwidth) == pytest.approx((5e-6, 2e9), rel=0.01)


def test_ratios_are_computed_within_a_repeat():
    from throughput import ratios

    speeds = {
        "MiloZero, 1 worker": [40.0, 20.0, 40.0],
        "MiloZero, 2 workers": [80.0, 40.0, 60.0],
        "SB3, 8 envs": [10.0, 5.0, 10.0],
        "SB3, 1 env": [5.0, 4.0, 20.0],
        "mj_step alone": [80.0, 40.0, 80.0],
        "CleanRL's style, 8 envs": [8.0, 4.0, 8.0],
        "MiloZero's rollouts": [60.0, 30.0, 60.0],
        "EnvPool alone, 16 envs": [60.0, 30.0, 60.0],
    }
    result = ratios(speeds)
    assert result["1 worker / SB3's better"] == 4.0
    assert result["2 workers / 1 worker"] == 2.0


def test_verdict_compares_with_a_lower_or_an_upper_bound():
    from throughput import verdict

    assert "reached" in verdict("2 workers / 1 worker", "Hopper-v5", 1.9)
    assert "MISSED" in verdict("2 workers / 1 worker", "Hopper-v5", 1.7)
    assert "reached" in verdict("main.py -h, s", "Hopper-v5", 0.3)
    assert "MISSED" in verdict("main.py -h, s", "Hopper-v5", 1.3)
    assert verdict("main.py -h, s", "Ant-v5", 1.3) == "1.30"


def test_stopwatch_excludes_nested_timed_calls():
    import time

    from profile_iteration import Stopwatch

    class Work:
        def inner(self):
            time.sleep(0.05)

        def outer(self):
            time.sleep(0.05)
            self.inner()

    watch, work = Stopwatch(), Work()
    watch.around(work, "inner", "in")
    watch.around(work, "outer", "out")
    work.outer()
    assert watch.seconds["in"] == pytest.approx(0.05, abs=0.02)
    assert watch.seconds["out"] == pytest.approx(0.05, abs=0.02)


def test_imitation_tables_show_percentages_of_the_expert_for_each_seed(tmp_path):
    import imitation_tables as tables

    expert = {"Hopper-v5": 2000.0, "Walker2d-v5": 4000.0}
    common = {"env_id": "Hopper-v5", "demos": 4, "steps": 500_000, "seconds": 9}
    rows = [
        {**common, "method": "gail", "seed": 1, "return": 2200.0},
        {**common, "method": "gail", "seed": 0, "return": 1000.0},
        {**common, "method": "gail, shuffled", "seed": 0, "return": 100.0},
        {**common, "method": "bc", "seed": 0, "return": 300.0},
    ]
    lines = tables.returns(rows, expert, {"bc": (4,), "gail": (1, 4)}).splitlines()
    assert "| Hopper-v5 | expert | | | 2,000 | 100 | |" in lines
    assert "| Hopper-v5 | gail | 4 | 2 | 1,600 | 80 (50, 110) | 500,000 |" in lines
    assert "| Hopper-v5 | bc | 4 | 1 | 300 | 15 (15) | – |" in lines
    assert len(lines) == 2 + 4
    controls = {"gail": (4,), "gail, shuffled": (4,), "airl": (16,), "airl, shuffled": (16,)}
    assert tables.controls(rows, expert, controls).splitlines()[2:] == [
        "| gail | 80 (50, 110) | 5 (5) |",
        "| airl | – | – |",  # not measured
    ]
    summary = tables.summary(rows, expert).splitlines()
    assert summary[0] == "| % of the expert's return | Hopper-v5 | Walker2d-v5 |"
    assert summary[2] == "| behavioral cloning, 4 demonstrations | 15 | – |"
    tables.plot(rows, expert, ["gail", "bc"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    tables.plot(rows[2:3], expert, ["gail", "bc"], tmp_path / "empty.png")  # only a control is measured
    assert (tmp_path / "empty.png").exists()


def test_readme_shows_airl_without_cloning():
    import imitation
    import imitation_tables as tables

    (method, number) = next(case for label, case in tables.IN_README.items() if label.startswith("AIRL"))
    flags = imitation.ALL[method].flags
    assert number in imitation.ALL[method].demos
    assert not any("pretrain" in flag for flag in flags)
    rows = json.loads(imitation.RESULTS.read_text())
    assert tables.summary(rows, imitation.experts()) in imitation.README.read_text()


def test_controls_differ_from_each_other_only_in_reward_and_ablation():
    import imitation

    assert len(imitation.CONTROLS) == 12
    absorbing = ("--d_reward=unbiased", "--d_absorbing")
    for algo in ("gail", "airl"):
        plain, recommended = imitation.CONTROLS[algo], imitation.CONTROLS[f"{algo}, unbiased reward, absorbing"]
        assert recommended.flags == (*plain.flags, *absorbing)
        shuffled = imitation.CONTROLS[f"{algo}, unbiased reward, absorbing, shuffled"]
        assert shuffled.flags == (*recommended.flags, "--d_ablation=shuffled")
        assert plain.demos == recommended.demos == shuffled.demos


def test_run_on_a_learned_reward_comes_after_the_run_that_learns_it():
    import imitation

    runs = list(imitation.cases(imitation.ALL, ["Hopper-v5"], [16], 2))
    students = [run for run in runs if run.teacher]
    assert len(students) == 2
    for run in students:
        assert run.teacher.seed == run.seed
        assert runs.index(run.teacher) < runs.index(run)
    assert len({run.name for run in runs}) == len(runs)


def test_imitation_speedups_are_ratios_within_a_repeat():
    import imitation_speed

    small, large = map(str, imitation_speed.SETTINGS)
    speeds = {small: {"milozero": [40.0, 20.0, 60.0], "imitation": [10.0, 10.0, 10.0]}}
    speeds[large] = {"milozero": [9.0] * 3, "imitation": [3.0] * 3}
    lines = imitation_speed.table(speeds).splitlines()
    assert lines[2].endswith("| 40 | 10 | 4.0 (4.0, 2.0, 6.0) | ≥ 3.5 |")
    assert lines[3].endswith("| 9 | 3 | 3.0 (3.0, 3.0, 3.0) | ≥ 2.3 |")


def test_performance_page_shows_the_measured_gpu_times():
    import gpu

    measured = json.loads(gpu.RESULTS.read_text())
    page = (gpu.ROOT / "docs" / "performance.md").read_text()
    assert gpu.table(measured["rows"]) in page
    assert measured["machine"]["gpu"] in page


def test_gpu_benchmark_measures_the_time_per_minibatch(monkeypatch):
    import gpu

    monkeypatch.setattr(gpu, "ROLLOUT_LEN", 256)
    row = gpu.measure("mlp_8", 32, ("cpu",), compile=False)
    assert (row["stack"], row["batch_size"]) == ("mlp_8", 32)
    assert 0.0 < row["ms_per_minibatch"]["cpu"] < 1000.0


def test_gpu_benchmark_without_a_gpu_is_an_error(monkeypatch, capsys):
    import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 2
    assert capsys.readouterr().err == "error: torch sees no GPU here\n"


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Replace main.py; returns a function that sets the final state of runs and returns their arguments."""
    import trainings

    commands = []

    def set_final_state(state):
        def run(*arguments, log):
            commands.append(arguments)
            name = next(a for a in arguments if a.startswith(("--uuid=", "--model_path="))).rpartition("=")[2]
            name = Path(name).name
            for folder in ("logs", "evaluations"):
                (tmp_path / folder / name / "last").mkdir(parents=True, exist_ok=True)
            (tmp_path / "logs" / name / "status.json").write_text(json.dumps({"state": state}))
            progress = "timesteps,return_mean,seconds\n" + "".join(f"{k},{k / 2},9.6\n" for k in range(1, 201))
            (tmp_path / "logs" / name / "progress.csv").write_text(progress)
            results = {"return_mean": 12.345, "return_std": 1.0}
            (tmp_path / "evaluations" / name / "last" / "results.json").write_text(json.dumps(results))

        monkeypatch.setattr(trainings, "run", run)
        return commands

    return set_final_state


def test_stopped_run_gives_no_result(trained, tmp_path):
    import imitation

    trained("stopped")
    with pytest.raises(RuntimeError, match="stopped before its end"):
        imitation.measure(imitation.Case("bc", "Hopper-v5", 4, 0), tmp_path)


def test_finished_run_is_evaluated_but_not_trained_again(trained, tmp_path):
    import imitation

    commands, case = trained("finished"), imitation.Case("ppo on airl's reward", "Hopper-v5", 16, 2)
    rows = [imitation.measure(case, tmp_path) for _ in range(2)]
    assert [arguments[0] for arguments in commands] == ["--task=train", "--task=eval", "--task=eval"]
    assert f"--reward_path={tmp_path}/checkpoints/{case.teacher.name}" in commands[0]
    assert {"--seed=2", "--num_demos=16", "--resume=auto"} <= set(commands[0])
    assert rows[0] == rows[1] == {**vars(case), "return": 12.3, "steps": 200, "seconds": 10}


def test_imitation_reports_the_failed_run_and_saves_no_row_for_it(monkeypatch, tmp_path, capsys):
    import imitation

    def measure(case, data):
        raise RuntimeError(f"{case.name} was stopped before its end")

    page = tmp_path / "imitation.md"
    page.write_text("<!-- made by: python benchmarks/imitation.py -->\nold\n<!-- end -->\n")
    replaced = {"measure": measure, "RESULTS": tmp_path / "imitation.json", "PAGE": page, "README": page}
    replaced |= {"experts": lambda: {"Hopper-v5": 1.0}}
    for name, value in replaced.items():
        monkeypatch.setattr(imitation, name, value)
    monkeypatch.setattr(sys, "argv", ["imitation.py", "--only", "bc", "--envs", "Hopper-v5", "--demos", "4"])
    assert imitation.main() == 1
    assert "a run failed: bc.Hopper-v5.demos04.seed00 was stopped" in capsys.readouterr().out
    assert not replaced["RESULTS"].exists()


def test_controls_do_not_replace_the_cases_of_a_method_that_is_also_selected(monkeypatch, tmp_path):
    import imitation

    selected = {}

    def select(methods, envs, numbers, seeds):
        selected.update(methods)
        return iter(())

    page = tmp_path / "page.md"
    page.write_text("")
    replaced = {"cases": select, "RESULTS": tmp_path / "imitation.json", "PAGE": page, "README": page}
    for name, value in (replaced | {"experts": lambda: {"Hopper-v5": 1.0}}).items():
        monkeypatch.setattr(imitation, name, value)
    monkeypatch.setattr(sys, "argv", ["imitation.py", "--only", "gail", "controls"])
    assert imitation.main() == 0
    assert selected == imitation.CONTROLS | {"gail": imitation.METHODS["gail"]}


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


def test_table_replaces_only_its_own_block_even_if_that_is_empty(tmp_path):
    import trainings

    marks = [f"<!-- made by: python benchmarks/{name} -->\n" for name in ("a.py", "a.py --more")]
    page = tmp_path / "page.md"
    page.write_text(f"{marks[0]}<!-- end -->\ntext\n{marks[1]}old\n<!-- end -->\n")
    trainings.update_page(page, "a.py", "new\n")
    assert page.read_text() == f"{marks[0]}new\n<!-- end -->\ntext\n{marks[1]}old\n<!-- end -->\n"


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


def test_learning_uses_the_environments_recipe_and_a_new_recipe_is_a_new_run(trained, tmp_path, monkeypatch):
    import learning

    commands = trained("finished")
    row = learning.measure("Swimmer-v5", 1, tmp_path)
    assert row["recipe"]["gamma"] == 0.9999
    assert row["recipe"]["num_timesteps"] == 1_000_000
    assert (row["return"], row["steps"], row["seconds"]) == (12.35, 200, 10)
    assert [a for a in commands[-1] if a.startswith("--seed")] == ["--seed=1001"]  # not the training seed
    assert len(row["curve"]) <= learning.POINTS
    assert row["curve"][-1] == (200, pytest.approx(99.25, abs=0.75))
    assert learning.changes(row) == ()
    before = learning.recipe("Swimmer-v5")
    # another recipe
    now = {name: value for name, value in before.items() if name != "gae_lambda"} | {"gamma": 0.99}
    monkeypatch.setattr(learning, "recipe", lambda env_id, changed=(): now)
    learning.current_recipe.cache_clear()
    assert learning.changes(row) == ("gamma=0.9999", "gae_lambda=0.98")
    learning.measure("Swimmer-v5", 1, tmp_path)
    learning.current_recipe.cache_clear()
    names = [
        next(a for a in arguments if a.startswith("--uuid=")) for arguments in commands if "--task=train" in arguments
    ]
    assert len(set(names)) == 2


def test_every_environment_of_the_learning_benchmark_has_a_recipe():
    import learning

    for env_id in learning.TASKS:
        assert learning.recipe(env_id)["algo"] == "ppo"
    order = list(learning.select_runs(["Hopper-v5", "Humanoid-v5"], 0))
    assert len(order) == 5 + 3
    assert order[:3] == [("Hopper-v5", 0), ("Humanoid-v5", 0), ("Hopper-v5", 1)]


def test_learning_tables_show_returns_beside_the_goal(monkeypatch, tmp_path):
    import learning

    monkeypatch.setattr(learning, "PICTURE", tmp_path / "picture.png")
    monkeypatch.setattr(
        learning, "interval", lambda returns: (statistics.median(returns), min(returns), max(returns))
    )
    common = {"env_id": "Hopper-v5", "steps": 1_001_472, "seconds": 240}
    rows = [
        {**common, "seed": seed, "return": value, "curve": [(1000, 10.0), (1_000_000, value)]}
        for seed, value in enumerate((3000.0, 3600.0, 3450.0))
    ]
    line = learning.table(rows).splitlines()[2]
    assert line.startswith(
        "| Hopper-v5 | 3,350 | 3,300 | 3,450 (3,000 to 3,600) | 3,000, 3,600, 3,450 | 2,410 ([rl-zoo3](https://"
    )
    assert line.endswith("| 1M | 4 |")
    others = [{**row, "env_id": env_id} for env_id in learning.TASKS if env_id != "Hopper-v5" for row in rows]
    summary = learning.summary([*rows, *others]).splitlines()
    assert summary[2].startswith("| Hopper-v5 | 3,350 | 1M | 3 | 2,410")
    assert [line.split()[1] for line in summary[2:]] == list(learning.IN_README)
    assert len(learning.IN_README) == 6
    assert all("](https://" in task.published for task in learning.TASKS.values())
    learning.plot(rows)
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_learning_reports_the_failed_run_and_keeps_the_others(trained, tmp_path, monkeypatch, capsys):
    import learning

    commands = trained("finished")
    results, page = tmp_path / "learning.json", tmp_path / "results.md"
    block = "<!-- made by: python benchmarks/learning.py{} -->\nold\n<!-- end -->\n"
    page.write_text(f"before\n{block.format('')}{block.format(' --change …')}after\n")
    old_recipe = {**learning.recipe("Hopper-v5"), "gamma": 0.5, "normalize_rewards": False}  # an earlier recipe
    old = {"env_id": "Hopper-v5", "seed": 0, "return": 1.0, "recipe": old_recipe, "curve": []}
    results.write_text(json.dumps([old, {**old, "env_id": "Gone-v1"}]))
    readme = tmp_path / "README.md"
    readme.write_text(page.read_text())
    for name, value in {
        "RESULTS": results,
        "PAGE": page,
        "README": readme,
        "PICTURE": tmp_path / "picture.png",
    }.items():
        monkeypatch.setattr(learning, name, value)
    monkeypatch.setattr(learning, "interval", lambda each: (statistics.median(each), min(each), max(each)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    measured = learning.measure

    def measure(env_id, seed, data, changed):
        if seed == 1:
            raise RuntimeError(f"{env_id} was stopped before its end")
        return measured(env_id, seed, data, changed)

    monkeypatch.setattr(learning, "measure", measure)
    command = ["learning.py", "--envs", "Hopper-v5", "--seeds", "3", f"--data_dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", command)
    assert learning.main() == 1
    assert "a run failed: Hopper-v5 was stopped before its end" in capsys.readouterr().out
    rows = [(row["env_id"], row["seed"], row["return"]) for row in json.loads(results.read_text())]
    assert sorted(rows) == [("Hopper-v5", 0, 1.0), ("Hopper-v5", 0, 12.35), ("Hopper-v5", 2, 12.35)]
    assert page.read_text().startswith("before\n")
    assert "| 12, 12 |" in page.read_text()
    assert "| Hopper-v5 | `gamma=0.5`, `no-normalize_rewards` | 1 | 1 | 12 |" in page.read_text()
    assert readme.read_text().count("| Hopper-v5 | 12 | 1M | 2 |") == 1
    count = len(commands)
    monkeypatch.setattr(learning, "measure", measured)
    assert learning.main() == 0  # only trains the missing run
    assert next(a for a in commands[count:] if "--task=train" in a)[1].endswith("seed01")
    assert len(commands) == count + 2


def test_changed_settings_are_compared_with_the_recipe_on_the_same_seeds(trained, tmp_path, monkeypatch, capsys):
    import learning

    commands = trained("finished")
    page = tmp_path / "results.md"
    page.write_text("<!-- made by: python benchmarks/learning.py --change … -->\nold\n<!-- end -->\nafter\n")
    for name, path in {
        "PAGE": page,
        "README": page,
        "RESULTS": tmp_path / "rows",
        "PICTURE": tmp_path / "p.png",
    }.items():
        monkeypatch.setattr(learning, name, path)
    monkeypatch.setattr(learning, "interval", lambda each: (statistics.median(each), min(each), max(each)))
    with_recipe = [{**learning.measure("Hopper-v5", seed, tmp_path), "return": 3000.0 + seed} for seed in (0, 1, 4)]
    learning.RESULTS.write_text(json.dumps(with_recipe))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    command = ["learning.py", "--envs", "Hopper-v5", "--seeds=2", f"--data_dir={tmp_path}", "--change"]
    monkeypatch.setattr(sys, "argv", [*command, "clip_range=0.1", "log_std_init=-1"])
    assert learning.main() == 0
    flags = next(a for a in reversed(commands) if "--task=train" in a)
    assert flags.index("--clip_range=0.1") > flags.index("--env_id=Hopper-v5")
    assert learning.main() == 0  # trains nothing
    row = "| Hopper-v5 | `log_std_init=-1`, `clip_range=0.1` | 12 | 12, 12 | 3,000 |"
    assert row in page.read_text()
    assert page.read_text().endswith("<!-- end -->\nafter\n")
    assert sorted(row["seed"] for row in json.loads(learning.RESULTS.read_text())) == [0, 0, 1, 1, 4]
    monkeypatch.setattr(sys, "argv", [*command, "clipp=0.1"])
    with pytest.raises(SystemExit):
        learning.main()
    assert "unknown argument '--clipp'; did you mean" in capsys.readouterr().err


def test_fuzzed_inputs_are_counted_over_all_tests_and_phases():
    import fuzz

    phases = (
        "- 1000 passing, 0 failing, and 5 invalid test cases",
        "- 7 passing, 2 failing, and 0 invalid test cases",
    )
    assert fuzz.count("  - during generate phase\n    ".join(("", *phases))) == (1007, 2)
    rows = [{"inputs": "files", "times": 5, "passing": 1007, "failing": 2}]
    assert fuzz.table(rows).splitlines()[-1] == "| files | 1,009 | 2 |"
