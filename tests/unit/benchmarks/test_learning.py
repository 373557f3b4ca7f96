"""The tables and runs of the learning benchmark."""

import json
import statistics
import sys

import pytest


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
