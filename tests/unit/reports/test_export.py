"""Reports as CSV and JSON; docs/reports.md documents each column."""

import csv
import io
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from make_reference import REPORTS, columns_block

from milozero.reports import export, scores
from milozero.reports.runs import read_runs
from tests.support import ROOT
from tests.support import runs as logs


def build(tmp_path):
    return scores.build_study(read_runs(tmp_path, "s"))


@pytest.fixture
def study(tmp_path):
    """Two environments, two trials of three seeds; one run of cloning on Hopper."""
    for env_id in ("Ant-v5", "Hopper-v5"):
        for trial, p_lr in enumerate((1e-5, 1e-3)):
            for seed in range(3):
                name = f"s.{env_id}.trial{trial:03}.seed{seed:02}"
                logs.log_run(tmp_path, name, env_id, seed, [1.0, 2.0 + trial + seed, 3.0 + seed], p_lr=p_lr)
    logs.log_run(tmp_path, "s.bc", algo="bc", expert_path="x", expert=10.0, evaluations=[5.0])
    return build(tmp_path)


def read(content):
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


@pytest.fixture
def tables(study):
    return {name: read(content) for name, content in export.export_csv(study).items()}


def test_each_record_has_the_declared_columns(study):
    for name, table in export.TABLES.items():
        found = list(table.make(study))
        assert found, name
        assert all(list(record) == list(table.columns) for record in found), name


def test_columns_are_documented():
    assert columns_block() in (ROOT / "docs/reports.md").read_text(), "run: python docs/make_reference.py"
    assert REPORTS.exists()


def test_curves_are_those_that_are_drawn(study, tables):
    (_, curve, _) = scores.build_curves(study, "Hopper-v5", "eval_return")
    assert curve.method.label == "ppo p_lr=1e-5"
    key = {"env_id": "Hopper-v5", "metric": "eval_return", "axis": "timesteps", "method": curve.method.label}
    rows = [row for row in tables["curves"] if key.items() <= row.items()]
    for name, values in (("x", curve.steps), ("mean", curve.mean), ("low", curve.interval[0])):
        np.testing.assert_allclose([float(row[name]) for row in rows], values, rtol=1e-7)
    assert {row["seeds"] for row in rows} == {"3"}
    (level,) = [row for row in tables["curves"] if (row["method"], row["axis"]) == ("bc", "timesteps")
                and row["metric"] == "eval_return"]  # fmt: skip
    assert (level["x"], level["mean"], level["low"]) == ("", "5", "")


def test_cloning_alone_has_no_curve_over_environment_steps(tmp_path):
    logs.log_run(tmp_path, "s", algo="bc", expert_path="x", evaluations=[1.0, 2.0])
    curves = read(export.export_csv(build(tmp_path))["curves"])
    ends = {(row["metric"], row["axis"]): float(row["x"]) for row in curves}
    assert ends == {(m, a): x for m in ("eval_return", "return_mean") for a, x in (("seconds", 8), ("iteration", 4))}


def test_measurements_are_the_rows_of_the_logs(tables):
    rows = [row for row in tables["measurements"] if row["run"] == "s.Ant-v5.trial001.seed02"]
    rows = [row for row in rows if row["metric"] == "eval_return"]
    numbers = [[float(row[name]) for name in ("timesteps", "seconds", "iteration", "value")] for row in rows]
    assert numbers == [[2000, 4, 2, 1], [4000, 8, 4, 5], [6000, 12, 6, 5]]


def test_scores_and_trials_match_numbers_worked_by_hand(tables):
    by_method = {row["method"]: row for row in tables["scores"] if row["env_id"] == "Hopper-v5"}
    ppo = by_method["ppo p_lr=1e-5"]
    assert [ppo[name] for name in ("score", "seeds", "iqm", "low", "high", "best", "expert_percent")] == [
        *("eval_return", "3", "4", "3", "5", "5", "")
    ]
    assert [by_method["bc"][name] for name in ("iqm", "low", "expert_return", "expert_percent")] == [
        "5",
        "",
        "10",
        "50",
    ]
    trials = [[row[name] for name in ("env_id", "trial", "rank", "p_lr")] for row in tables["trials"]]
    assert trials[:2] == [["Ant-v5", "000", "1", "1e-05"], ["Ant-v5", "001", "2", "0.001"]]
    assert len(tables["aggregates"]) == 2


def test_runs_have_settings_state_and_provenance(tables):
    (run,) = [row for row in tables["runs"] if row["name"] == "s.Ant-v5.trial001.seed02"]
    assert [run[name] for name in ("p_lr", "gamma", "state", "seed", "trial", "commit", "command")] == [
        *("0.001", "0.99", "finished", "2", "001", "abc1234", "main.py s.Ant-v5.trial001.seed02")
    ]
    assert "p_lr" in run["changed"].split()


def test_methods_have_their_color_and_settings(tables):
    assert [[row[name] for name in ("method", "algo", "color", "p_lr")] for row in tables["methods"]] == [
        ["bc", "bc", "#0072b2", ""],
        ["ppo p_lr=1e-5", "ppo", "#d55e00", "1e-05"],
        ["ppo p_lr=0.001", "ppo", "#009e73", "0.001"],
    ]


def test_json_has_the_same_records(study, tables):
    def refuse(text):
        raise AssertionError(text)

    content = json.loads(export.export_json(study, "s"), parse_constant=refuse)  # no NaN
    assert list(content) == ["study", *export.TABLES]
    assert content["runs"][-1]["settings"]["bc_patience"] == 20
    assert len(content["runs"]) == len(tables["runs"])
    curve = content["curves"][0]
    assert len(curve["x"]) == len(curve["mean"]) == 200
    assert content["scores"][2]["low"] is None  # of a single seed
    assert sum(len(record["value"]) for record in content["measurements"]) == len(tables["measurements"])


def test_documented_example_draws_the_curves(study, tmp_path, monkeypatch):
    (tmp_path / "data/reports").mkdir(parents=True)
    (tmp_path / "data/reports/walkers.json").write_bytes(export.export_json(study, "s"))
    monkeypatch.chdir(tmp_path)
    plt.close("all")  # what other tests left open
    example = re.search("```python\n(.*?)```", (ROOT / "docs/reports.md").read_text(), re.DOTALL)[1]
    try:
        exec(example, {})
        assert len(plt.gca().lines) == 3
        assert (tmp_path / "hopper.png").exists()
    finally:
        plt.close("all")
