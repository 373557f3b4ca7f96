"""The runs and tables of the race."""

import csv
import json

import pytest


@pytest.fixture
def race(monkeypatch, tmp_path):
    """The module, with a main.py that takes a thousand steps per second and starts in ten; lists its calls."""
    import race

    calls, trained = [], {}

    def run(*arguments, log):
        flags = dict(word.removeprefix("--").split("=") for word in arguments if "=" in word)
        calls.append((flags.get("uuid", "eval"), flags.get("execution_time"), "--resume" in arguments))
        if flags["task"] == "eval":
            folder = tmp_path / "evaluations" / flags["model_path"].rpartition("/")[2] / "last"
            folder.mkdir(parents=True)
            results = {"return_mean": trained[folder.parent.name] / 1000, "return_std": 1.0}
            (folder / "results.json").write_text(json.dumps(results))
            return
        hours, minutes, seconds = map(int, flags["execution_time"].split(":"))
        name, limit = flags["uuid"], 3600 * hours + 60 * minutes + seconds
        trained[name] = trained.get(name, 0) * ("--resume" in arguments) + limit - 10
        trained[name] = min(trained[name], float(flags["num_timesteps"]) / 1000)
        logs = tmp_path / "logs" / name
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / "progress.csv").open("w") as file:
            writer = csv.writer(file)
            writer.writerow(["timesteps", "seconds", "return_mean"])
            writer.writerow([100, 0.1, ""])
            writer.writerow([1000 * trained[name], trained[name], 5.0])

    monkeypatch.setattr(race, "run", run)
    monkeypatch.setattr(race, "RESULTS", tmp_path / "race.json")
    race.calls = calls
    return race


def test_off_policy_run_goes_on_after_its_first_evaluation(race, tmp_path):
    rows = race.measure("TD3", "Hopper-v5", 2, tmp_path)
    name = "Hopper-v5.td3.seed02"
    assert race.calls == [
        (name, "00:10:00", False),
        ("eval", None, False),
        (name, "00:20:00", True),
        ("eval", None, False),
    ]
    assert [(row["minutes"], row["seconds"], row["steps"]) for row in rows] == [
        (10, 590, 590_000),
        (30, 590 + 1190, 1_780_000),
    ]
    assert [row["return"] for row in rows] == pytest.approx([0.6, 1.8], abs=0.03)
    assert rows[1]["curve"] == [(29.67, 5.0)]
    assert rows[0] | {"contestant": "TD3", "env_id": "Hopper-v5", "seed": 2} == rows[0]


def test_ppo_trains_once_for_each_duration_to_the_end_of_its_schedule(race, tmp_path):
    rows = race.measure("PPO", "Ant-v5", 0, tmp_path)
    names = [f"Ant-v5.ppo.seed00.{minutes}min" for minutes in (10, 30)]
    trainings = [call for call in race.calls if call[0] != "eval"]
    assert trainings == [
        (f"{names[0]}.short", "00:01:00", False),
        (names[0], "00:10:00", False),
        (f"{names[1]}.short", "00:01:00", False),
        (names[1], "00:30:00", False),
    ]
    assert [row["steps"] for row in rows] == [590_000, 1_790_000]  # a start takes ten seconds


def row(name, env_id, seed, minutes, return_):
    return {
        "contestant": name,
        "env_id": env_id,
        "seed": seed,
        "minutes": minutes,
        "return": return_,
        "curve": [[1.0, return_ / 2], [minutes, return_]],
    }


def test_tables_show_means_and_the_best_of_each_environment(race):
    rows = [row("TD3", "Ant-v5", seed, 30, 4000.0 + seed) for seed in (0, 1, 2)]
    rows += [
        row("PPO", "Ant-v5", 0, 30, -12.0),
        row("SB3-SAC", "Ant-v5", 1, 30, 900.0),
        row("SAC", "Ant-v5", 0, 10, 1.0),
    ]
    lines = {line.split(" | ")[0]: line.split(" | ") for line in race.table(rows, 30).splitlines()}
    assert lines["| MiloZero TD3"][4] == "**4,001** (4,000, 4,001, 4,002)"
    assert lines["| MiloZero PPO"][4] == "−12 (−12)"
    assert lines["| Stable-Baselines3 SAC"][4] == "900 (900)"
    assert lines["| MiloZero SAC"][4] == "–"
    assert lines["| *goal*"][4] == "≥ 4,000"
    summary = race.summary(rows)
    assert "| MiloZero TD3 | – | – | – | 4,001 | – |" in summary
    assert "MiloZero SAC" not in summary


def test_picture_has_a_panel_for_each_environment(race, monkeypatch, tmp_path):
    monkeypatch.setattr(race, "PICTURE", tmp_path / "race.png")
    race.plot([])
    assert not race.PICTURE.exists()
    race.plot([row("TD3", env_id, seed, 30, 5.0) for env_id in ("Ant-v5", "Hopper-v5") for seed in (0, 1)])
    assert race.PICTURE.stat().st_size > 10_000


def test_missing_runs_come_one_seed_after_another(race, capsys, monkeypatch):
    race.save_rows([row("TD3", "Ant-v5", 0, minutes, 1.0) for minutes in race.MINUTES])
    missing = list(race.missing_runs(["TD3", "SB3-TD3"], ["Hopper-v5", "Ant-v5"], race.load_rows()))
    assert missing[:2] == [("TD3", "Hopper-v5", 0), ("SB3-TD3", "Ant-v5", 0)]
    assert [case for case in missing if case[0] == "SB3-TD3"] == [("SB3-TD3", "Ant-v5", 0), ("SB3-TD3", "Ant-v5", 1)]
    assert len(missing) == 5 + 2
    monkeypatch.setattr("sys.argv", ["race.py", "--show"])
    assert race.main() == 0
    assert "| MiloZero TD3 | – | – | – | **1** (1) | – |" in capsys.readouterr().out


def test_curves_are_thinned_to_means(race):
    curve = race.thin([(minute, 2.0 * minute) for minute in range(120)])
    assert len(curve) == 60
    assert curve[0] == (1, 1.0)
    assert race.thin([]) == []
