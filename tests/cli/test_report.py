"""Reports from the command line."""

import csv

import imageio.v2
import numpy as np
import pytest

from milozero.reports import export
from tests.support import runs as logs


@pytest.fixture
def study(tmp_path):
    logs.write_study(tmp_path / "data")
    return tmp_path / "data"


def colors(picture):
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def test_report_writes_a_png_and_a_csv(milozero, study, tmp_path):
    assert milozero("--task=report", "--study=w", "--format=png", data=study).returncode == 0
    picture = imageio.v2.imread(study / "reports/w.png")
    assert picture.shape[1] > 1.5 * picture.shape[0] > 500
    assert colors(picture[..., :3]) > 100
    out = tmp_path / "new folder" / "w.csv"
    done = milozero("--task=report", "--study=w.Ant-v5,w.Hop*", f"--out={out}", data=study)
    assert done.returncode == 0
    assert str(out.with_name("w.curves.csv")) in done.stdout
    tables = {path.name for path in out.parent.iterdir()} - {"w.csv"}
    assert tables == {f"w.{name}.csv" for name in export.TABLES if name != "runs"}
    rows = list(csv.DictReader(out.open(newline="")))
    assert len(rows) == 18
    last = rows[-1]
    assert (last["name"], last["env_id"]) == ("w.Hopper-v5.trial002.seed02", "Hopper-v5")
    assert (last["method"], last["p_lr"], last["seed"], last["trial"]) == ("ppo p_lr=0.01", "0.01", "2", "002")
    assert (last["state"], last["steps"], last["iterations"], last["seconds"]) == ("failed", "40000", "40", "80")
    assert (last["score"], last["steps_per_second"], last["commit"]) == ("eval_return", "500", "abc1234")
    assert 2900 < float(last["final"]) <= float(last["best"]) < 3200


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--study=",), "--task=report needs --study=<prefix>"),
        ((), "--task=report needs --study=<prefix>"),
        (("--study=x.",), "no matching runs"),
        (("--study=v",), "no matching runs; available: w"),
        (("--study=w.Hoper-v5",), "did you mean 'w.Hopper-v5'"),
        (("--study=w", "--seed=3"), "--seed has no effect on --task=report"),
        (("--study=w", "--gamma=1"), "--gamma belongs to --task=train, not to --task=report"),
        (("--study=w", "--format=pdf"), "must be one of html, png, csv, json"),
        (("--study=w", "--format=png", "--out=x.csv"), "--out=x.csv contradicts --format=png"),
        (("--study=w", "--out=."), "--out=. is a folder"),
        (("--study=w", "--out=/dev/null/x.html"), "cannot write /dev/null/x.html: "),
        (("--task=train", "--study=w"), "--study belongs to --task=report"),
    ],
)
def test_invalid_flags_are_a_one_line_error_and_nothing_is_written(milozero, study, args, message):
    before = sorted(study.rglob("*"))
    done = milozero("--task=report", *args, data=study)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert sorted(study.rglob("*")) == before


def test_png_without_measurements_is_an_error(milozero, tmp_path):
    logs.log_run(tmp_path / "data", "w")
    done = milozero("--task=report", "--study=w", "--format=png")
    assert done.returncode == 2
    assert "nothing to plot yet" in done.stderr
    assert not (tmp_path / "data/reports").exists()
