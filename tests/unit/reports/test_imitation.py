"""The expert in a report: its line, percentages of its return, and ablations."""

import math

import pytest
from matplotlib.figure import Figure

from milozero.reports import curve_figures, page, tables
from milozero.reports.runs import mean_expert_return, read_runs
from milozero.reports.scores import build_curves, build_study, score_rows
from milozero.reports.styles import INK
from tests.support import runs as logs

EXPERT = {"expert_path": "data/demos/Hopper-v5", "expert": 2000.0}


def study(tmp_path):
    return build_study(read_runs(tmp_path, "s"))


def gail(tmp_path, name, score, **settings):
    logs.log_run(tmp_path, f"s.{name}", evaluations=[1.0, score], algo="gail", **EXPERT | settings)


def texts(tmp_path):
    table = tables.imitation_table(score_rows(study(tmp_path)))
    rows = {row["method"].text: [cell.text for cell in list(row.values())[2:]] for row in table.rows}
    return list(table.rows[0]), rows


def test_scores_are_percentages_of_the_expert_return_and_ablations_have_columns(tmp_path):
    for seed, score in enumerate((1800.0, 1900.0, 2000.0)):
        gail(tmp_path, f"a.seed{seed}", score, seed=seed, num_demos=4)
    gail(tmp_path, "shuffled", 300.0, num_demos=4, d_ablation="shuffled")
    gail(tmp_path, "noise", 150.0, num_demos=4, d_ablation="none")
    gail(tmp_path, "other", 1000.0, num_demos=16)
    head, rows = texts(tmp_path)
    assert head[2:6] == ["% of expert", "IQM", "expert return", "demonstrations"]
    assert head[6:] == ["% shuffled demos", "% without demos"]
    assert rows == {
        "gail d_ablation=off num_demos=4": ["95.0", "1,900", "2,000", "4", "15.0", "7.5"],
        "gail d_ablation=shuffled num_demos=4": ["15.0", "300.0", "2,000", "4", "–", "–"],
        "gail d_ablation=none num_demos=4": ["7.5", "150.0", "2,000", "4", "–", "–"],
        "gail d_ablation=off num_demos=16": ["50.0", "1,000", "2,000", "16", "–", "–"],  # has other demonstrations
    }


def test_ablation_columns_are_omitted_without_ablations(tmp_path):
    gail(tmp_path, "a", 1000.0)
    logs.log_run(tmp_path, "s.ppo", evaluations=[1.0, 2500.0], **EXPERT)
    head, rows = texts(tmp_path)
    assert head[2:] == ["% of expert", "score", "expert return", "demonstrations"]  # no IQM of a single seed
    assert rows == {"gail": ["50.0", "1,000", "2,000", "all"], "ppo": ["125.0", "2,500", "2,000", "all"]}


def test_percentages_require_a_positive_expert_return(tmp_path):
    logs.log_run(tmp_path, "s.ppo", evaluations=[1.0, 2.0])
    ppo = study(tmp_path)
    assert tables.imitation_table(score_rows(ppo)) is None
    assert 'id="imitation"' not in page.render_page(ppo, "s", tmp_path).decode()
    assert math.isnan(mean_expert_return(ppo.runs))
    assert tables.percentage_cell(-3.0, -5.0).text == "–"
    assert tables.percentage_cell(1.0, 0.0).text == "–"


def test_page_has_an_imitation_section_and_draws_the_expert(tmp_path):
    gail(tmp_path, "a", 1000.0)
    gail(tmp_path, "b", 100.0, d_ablation="shuffled")
    text = page.render_page(study(tmp_path), "s", tmp_path).decode()
    assert 'href="#imitation"' in text
    assert "sign of its reward" in text
    assert ">expert<" in text


@pytest.mark.parametrize("expert", [2000.0, math.nan])
def test_expert_return_is_a_horizontal_line(tmp_path, expert):
    logs.log_run(tmp_path, "s", evaluations=[1.0, 2.0])
    ppo, axes = study(tmp_path), Figure().subplots()
    curves = build_curves(ppo, "Hopper-v5", "eval_return")
    curve_figures.draw_curves(axes, curves, page.choose_styles(ppo, []), "return", expert)
    drawn = [line for line in axes.lines if line.get_color() == INK]
    assert [line.get_ydata()[0] for line in drawn] == ([expert] if math.isfinite(expert) else [])
    others = max(line.get_zorder() for line in axes.lines if line not in drawn)
    assert all(line.get_zorder() > others for line in drawn)  # a cloned policy's line may be at the same height
