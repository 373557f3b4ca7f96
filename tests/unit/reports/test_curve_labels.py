"""Labels at the ends of curves."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from milozero.reports import curve_figures, page
from milozero.reports.curve_labels import abbreviate, spread
from milozero.reports.runs import TIME, read_runs
from milozero.reports.scores import build_curves, build_study
from tests.support import runs as logs


def test_labels_are_moved_apart_as_little_as_possible():
    assert spread(np.array([0.5, 0.1, 0.9]), 0.1) == pytest.approx([0.5, 0.1, 0.9])
    assert spread(np.array([0.5, 0.5]), 0.1) == pytest.approx([0.45, 0.55])
    assert spread(np.array([0.52, 0.5, 0.1]), 0.1) == pytest.approx([0.56, 0.46, 0.1])
    assert np.diff(np.sort(spread(np.random.default_rng(0).random(9), 0.1))).min() > 0.1 - 1e-9


def test_shared_words_are_dropped():
    assert abbreviate(["ppo p_lr=1", "ppo p_lr=2"]) == ["p_lr=1", "p_lr=2"]
    assert abbreviate(["ppo", "ppo p_lr=2", "sac"]) == ["ppo", "ppo p_lr=2", "sac"]
    assert abbreviate(["ppo p_lr=1"]) == ["ppo p_lr=1"]


def drawn(tmp_path, axis="timesteps"):
    """Return whether the curves are labeled, and text → position of the labels, as fractions of the axes."""
    study, axes = build_study(read_runs(tmp_path, "s")), Figure().subplots()
    curves = build_curves(study, "Hopper-v5", "eval_return", axis)
    is_labeled = curve_figures.draw_curves(axes, curves, page.choose_styles(study, []), "")
    return is_labeled, {text.get_text(): text.get_position() for text in axes.texts}


def test_curves_that_end_apart_are_labeled_beside_the_axes(tmp_path):
    for p_lr in (1, 2, 3):
        logs.log_run(tmp_path, f"s.{p_lr}", evaluations=[0.0, float(p_lr)], p_lr=p_lr)
    is_labeled, labels = drawn(tmp_path)
    assert is_labeled
    assert list(labels) == ["p_lr=1", "p_lr=2", "p_lr=3"]
    assert all(x > 1 for x, _ in labels.values())
    heights = [y for _, y in labels.values()]
    assert heights == sorted(heights)


@pytest.mark.parametrize("reason", ["too many", "too long", "together", "too early"])
def test_otherwise_there_are_no_labels(tmp_path, reason):
    number = 12 if reason == "too many" else 6
    for i in range(number):
        settings = {"gamma": 0.5 + i / 100, **({"p_lr": 0.001 + i} if reason == "too long" else {})}
        last = 1.0 if reason == "together" else float(i)
        evaluations = [0.0, last] if reason != "too early" or i else [0.0, 0.0, 0.0, 9.0]
        logs.log_run(tmp_path, f"s.{i:02}", evaluations=evaluations, **settings)
    assert drawn(tmp_path) == (False, {})


def test_millions_of_steps_have_short_ticks(tmp_path):
    folder = logs.log_run(tmp_path, "s", evaluations=np.arange(20.0))
    rows = (folder / "progress.csv").read_text().replace("000,", "000000,")
    (folder / "progress.csv").write_text(rows)
    study, axes = build_study(read_runs(tmp_path, "s")), Figure().subplots()
    curve_figures.draw_curves(
        axes, build_curves(study, "Hopper-v5", "eval_return"), page.choose_styles(study, []), ""
    )
    assert axes.get_xlabel() == "environment steps (millions)"
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [10, 20, 30, 40]
    assert max(line.get_xdata()[-1] for line in axes.lines) == 40


def test_time_has_its_unit(tmp_path):
    logs.log_run(tmp_path, "s", evaluations=list(range(100)))
    study, axes = build_study(read_runs(tmp_path, "s")), Figure().subplots()
    curves = build_curves(study, "Hopper-v5", "eval_return", TIME)
    curve_figures.draw_curves(axes, curves, page.choose_styles(study, []), "")
    assert axes.get_xlabel() == "wall-clock time (min)"
    assert max(line.get_xdata()[-1] for line in axes.lines) == pytest.approx(400 / 60)
