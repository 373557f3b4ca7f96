"""The report's page, plots and tables; tests/system/test_report_in_browser.py opens it in a browser."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import imageio.v2
import matplotlib as mpl
import pytest

from milozero.helpers.errors import UserError
from milozero.helpers.logging import format_duration
from milozero.reports import curve_figures, figures, formats, page, scores, tables
from milozero.reports.export import export_csv
from milozero.reports.recipes import list_recipes
from milozero.reports.runs import STEPS, read_runs
from milozero.reports.scores import build_study
from milozero.reports.styles import GRAY, STYLES
from tests.support import runs as logs

HOSTILE = "<script>alert(1)</script> \"'&$x_1$ {{ 7 }} é漢‮"


class Reader(HTMLParser):
    """Collects the elements, ids and references of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            self.ids += [value] if name == "id" else []
            self.links += [value] if name in ("src", "href", "xlink:href") else []
            self.links += re.findall(r"url\((.*?)\)", value or "")

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(autouse=True)
def _one_axis(monkeypatch):
    """Draw curves over environment steps only, which takes a third of the time; the browser's tests draw all."""
    monkeypatch.setattr(page, "PLOTTED_AXES", (STEPS,))


def study(tmp_path, name="s"):
    return build_study(read_runs(tmp_path, name))


def png(tmp_path, name="s"):
    return formats.render_png(study(tmp_path, name), name, tmp_path, tmp_path / name)["png"]


def html(tmp_path, name="s"):
    return page.render_page(study(tmp_path, name), name, tmp_path).decode()


@pytest.fixture
def sweep_folder(tmp_path):
    """A sweep with two environments, two trials and three seeds."""
    for env_id in ("Ant-v5", "Hopper-v5"):
        for trial, p_lr in enumerate((1e-5, 1e-3)):
            for seed in (0, 1, 2):
                name = f"s.{env_id}.trial{trial:03}.seed{seed:02}"
                logs.log_run(tmp_path, name, env_id, seed, [1.0, 2.0 + trial + seed, 3.0 + seed], p_lr=p_lr)
    return tmp_path


def test_page_is_self_contained_and_its_references_resolve(sweep_folder):
    text = html(sweep_folder)
    reader = Reader(text)
    assert len(reader.ids) == len(set(reader.ids))
    assert all(
        link == "data:," or link[1:] in reader.ids
        for link in reader.links
        if not link.startswith(("data:video", "data:text"))
    )
    assert "@import" not in text
    assert reader.tags.count("style") == 1  # the style of a plot would apply to the whole page
    assert not re.search(r"https?:", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text))
    for section in ("evaluation", "training", "scores", "aggregate", "sweep", "time", "definitions"):
        assert section in reader.ids


def undated(text):
    return re.sub(r'class="date">.*?<', "", text)


def test_same_runs_give_the_same_page(sweep_folder):
    assert undated(html(sweep_folder)) == undated(html(sweep_folder))


def test_page_shows_numbers_worked_by_hand(sweep_folder):
    text = html(sweep_folder)
    row = re.search('<tr><td class="environment">Hopper-v5</td>.*?</tr>', text, re.S)[0]
    cells = [re.sub("<.*?>|\n", "", cell).strip() for cell in re.findall("<td.*?</td>", row, re.S)]
    assert cells == ["Hopper-v5", "ppo p_lr=1e-5", "4.00", "3.00 … 5.00", "3", "4.00", "4.00", "5.00"]


def test_user_input_never_becomes_markup(tmp_path):
    for i in (0, 1):
        folder = logs.log_run(tmp_path, f"s.{HOSTILE.replace('/', '|')}.{i}", seed=i, evaluations=[1.0, 2.0])
        config = (folder / "config.yaml").read_text()
        config = config.replace("Hopper-v5", '"<img src=x onerror=alert(2)> $\\\\frac$"')
        (folder / "config.yaml").write_text(config.replace("activation: tanh", f"activation: '<b>{i}'"))
        logs.write_status(folder, "failed", reason=f"</td></table>{HOSTILE}")
    text = html(tmp_path)
    tags = Reader(text).tags
    assert (tags.count("script"), tags.count("img"), tags.count("b")) == (1, 0, 0)
    assert "<script>alert" not in text
    assert png(tmp_path).startswith(b"\x89PNG")
    (first, _) = csv.DictReader(io.StringIO(export_csv(study(tmp_path))["runs"].decode(), newline=""))
    assert first["reason"] == f"</td></table>{HOSTILE}"
    assert first["activation"] == "<b>0"


def test_figures_ignore_the_users_matplotlib(tmp_path):
    logs.log_run(tmp_path, "s", evaluations=[1.0, 2.0])
    page_before, picture_before = html(tmp_path), png(tmp_path)
    with mpl.rc_context({"text.usetex": True, "font.size": 30, "savefig.bbox": "tight", "lines.marker": "x"}):
        assert undated(html(tmp_path)) == undated(page_before)
        assert png(tmp_path) == picture_before


def test_figure_that_cannot_be_drawn_is_a_note(sweep_folder, monkeypatch, caplog):
    def fail(*args):
        raise RuntimeError("no <font>")

    monkeypatch.setattr(curve_figures, "draw_curves", fail)
    text = html(sweep_folder)
    assert text.count("This figure cannot be drawn: RuntimeError: no &lt;font&gt;") == 4
    assert "3.00 … 5.00" in text  # the scores
    assert "cannot draw a figure: RuntimeError: no <font>" in caplog.text
    with pytest.raises(UserError, match="cannot draw the learning curves: RuntimeError: no <font>"):
        png(sweep_folder)


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_one_or_two_seeds_are_listed_without_statistics(tmp_path, num_seeds):
    for seed in range(num_seeds):
        for p_lr in (0.1, 0.2):
            logs.log_run(tmp_path, f"s.{p_lr}.{seed}", seed=seed, evaluations=[1.0, 2.0 + seed], p_lr=p_lr)
    text = html(tmp_path)
    assert "No interval with fewer than 3 seeds." in text
    assert "Statistics need 3 seeds or more" in text
    assert ' best"' not in text
    row, _ = tables.scores_table(scores.score_rows(study(tmp_path))).rows
    assert list(row) == ["environment", "method", "score", "each seed", "seeds"]
    assert row["each seed"].text == ", ".join(["2.00", "3.00"][:num_seeds])


def test_method_with_two_seeds_beside_one_with_three_has_no_statistics(tmp_path):
    for seed in range(5):
        logs.log_run(tmp_path, f"s.{seed}", seed=seed % 3, evaluations=[1.0 + seed], p_lr=0.1 + 0.1 * (seed > 2))
    three, two = tables.scores_table(scores.score_rows(study(tmp_path))).rows
    assert [cell.text for cell in two.values()][2:] == ["4.50", "needs 3 seeds", "2", "–", "–", "5.00"]
    assert [cell.text for cell in three.values()][2:] == ["2.00", "1.00 … 3.00", "3", "2.00", "2.00", "3.00"]
    assert not three["IQM"].best
    assert not two["IQM"].best


def test_markers_are_measurements(tmp_path):
    """The line is interpolated at 200 steps, from 2,000 to 20,000; measurements are at every second thousand."""
    for seed, factor in ((0, 1.0), (1, 3.0)):
        logs.log_run(tmp_path, f"s.{seed}", seed=seed, evaluations=[factor * k * k for k in range(1, 11)])
    logs.log_run(tmp_path, "s.single", evaluations=[7.0], p_lr=0.2)
    grouped = study(tmp_path)
    axes = figures.Figure().subplots()
    styles = page.choose_styles(grouped, scores.score_rows(grouped))
    curve_figures.draw_curves(axes, scores.build_curves(grouped, "Hopper-v5", "eval_return"), styles, "")
    marked = [line for line in axes.lines if line.get_marker() not in ("", "None", None)]
    points = [list(zip(*line.get_data(), strict=True)) for line in marked]
    measured = {(2000.0 * k, 2.0 * k * k) for k in range(1, 11)}
    (many,) = [each for each in points if len(each) > 1]
    assert set(many) <= measured
    assert (many[0], many[-1], len(many)) == ((2000, 2), (20_000, 200), curve_figures.MAX_MARKERS)
    assert [(2000.0, 7.0)] in points  # a run with one measurement


def test_page_notes_that_a_mean_ends_early(tmp_path):
    logs.log_run(tmp_path, "s.0", evaluations=[1.0, 2.0, 3.0])
    folder = logs.log_run(tmp_path, "s.1", seed=1, evaluations=[1.0, 2.0])
    logs.write_status(folder, "stopped", "SIGUSR1")
    text = html(tmp_path)
    assert "ppo: the mean ends at 4,000 steps with s.1 (stopped)." in text
    assert "SIGUSR1" in text
    assert "2 (1 unfinished)" in text


def test_page_notes_that_cloning_takes_no_environment_steps(tmp_path):
    logs.log_run(tmp_path, "s.bc", algo="bc", expert_path="x", evaluations=[1.0, 2.0])
    assert "Over iterations, because behavioral cloning takes no environment steps." in html(tmp_path)
    logs.log_run(tmp_path, "s.ppo", evaluations=[1.0, 2.0])
    assert "bc takes no environment steps: its line over them is its final score." in html(tmp_path)


def test_runs_without_measurements_still_give_a_page(tmp_path):
    logs.log_run(tmp_path, "s.0")
    (logs.log_run(tmp_path, "s.1") / "config.yaml").write_text("[")
    text = html(tmp_path)
    assert "Nothing to plot yet" in text
    assert "config.yaml is missing or unreadable" in text
    assert "NaN" not in re.sub("<script>.*?</script>", "", text, flags=re.S)


def test_worst_methods_are_gray_if_there_are_more_methods_than_styles(tmp_path):
    for i in range(len(STYLES) + 2):
        logs.log_run(tmp_path, f"s.{i:03}", evaluations=[0.0, float(i % 20) + i / 100], gamma=0.5 + i / 100)
    many = study(tmp_path)
    styles = page.choose_styles(many, scores.score_rows(many))
    gray = [label for label, style in styles.items() if style.color == GRAY]
    assert gray == ["ppo gamma=0.5", "ppo gamma=0.7"]  # trials 0 and 20, with scores 0 and 0.2
    assert len(set(styles.values())) == len(STYLES) + 1
    assert "The 2 methods with the lowest final scores are gray." in html(tmp_path)


def test_svg_is_well_formed_and_has_a_label_for_screen_readers(sweep_folder):
    sweep = study(sweep_folder)
    styles = page.choose_styles(sweep, [])
    svg, _ = curve_figures.render_curves(
        "<A>", scores.build_curves(sweep, "Ant-v5", "eval_return"), styles, "evaluation return"
    )
    root = ET.fromstring(svg.replace("<svg", '<svg xmlns="x"', 1))
    assert root.attrib["aria-label"] == "Evaluation return over environment steps on <A>"
    assert "var(--m0)" in svg
    assert not re.search('#[0-9a-f]{6}[;"]', svg.replace("#ffffff", ""))  # every color follows the light or dark mode


def test_unused_grid_cells_of_the_png_are_empty(tmp_path):
    for env_id in ("Ant-v5", "Hopper-v5", "Swimmer-v5", "Walker2d-v5"):
        logs.log_run(tmp_path, f"s.{env_id}", env_id, evaluations=[1.0, 2.0])
    pixels = imageio.v2.imread(png(tmp_path))[..., :3]
    height, width = pixels.shape[:2]
    lower = pixels[height // 2 + 20 :]
    assert (lower[:, : width // 3] < 128).any()
    assert (lower[:, width // 3 + 20 :] == 255).all()


def test_axis_of_a_sweep_is_logarithmic_if_values_span_a_wide_range():
    def scale(values):
        axes = figures.Figure().subplots()
        positions = figures._scale_x_axis(axes, values)
        return axes.get_xscale(), positions

    assert scale([1e-4, 3e-3]) == ("linear", [1e-4, 3e-3])
    assert scale([1e-4, 3.1e-3]) == ("log", [1e-4, 3.1e-3])
    assert scale([0.0, 1.0])[0] == "linear"
    assert scale(["mlp_64", "mlp_256", "mlp_64"]) == ("linear", [0, 1, 0])
    assert scale([None, 3])[1] == [1, 0]


def test_trials_are_ranked_on_each_environment(sweep_folder):
    sweep = study(sweep_folder)
    table = tables.trials_table(scores.rank_trials(sweep, "Ant-v5"))
    assert list(table.rows[0]) == ["trial", "IQM", "rank", "seeds", "p_lr"]
    assert [row["trial"].text for row in table.rows] == ["trial000", "trial001"]  # equal scores keep their order
    assert [row["p_lr"].value for row in table.rows] == [1e-5, 1e-3]
    assert [row["IQM"].best for row in table.rows] == [True, False]


def test_best_trial_is_first_and_best_method_of_each_environment_is_highlighted(tmp_path):
    for trial, (p_lr, last) in enumerate([(0.1, 2.0), (0.2, 9.0), (0.3, 5.0)]):
        for seed in (0, 1, 2):
            settings = {"seed": seed, "p_lr": p_lr}
            logs.log_run(tmp_path, f"s.trial{trial:03}.seed{seed:02}", evaluations=[0.0, last], **settings)
            name = f"s.Ant.trial{trial:03}.seed{seed:02}"
            logs.log_run(tmp_path, name, "Ant-v5", evaluations=[0.0, -last], **settings)
    sweep = study(tmp_path)
    ranked = tables.trials_table(scores.rank_trials(sweep, "Hopper-v5")).rows
    assert [[cell.text for cell in list(row.values())[:3]] for row in ranked] == [
        ["trial001", "9.00", "1"],
        ["trial002", "5.00", "2"],
        ["trial000", "2.00", "3"],
    ]
    scored = tables.scores_table(scores.score_rows(sweep)).rows
    highlighted = [(row["environment"].text, row["method"].text) for row in scored if row["IQM"].best]
    assert highlighted == [("Ant-v5", "ppo p_lr=0.1"), ("Hopper-v5", "ppo p_lr=0.2")]


def test_runs_and_what_they_were_trained_with_are_shown(tmp_path):
    logs.log_run(tmp_path, "s.0", evaluations=[1.0, 2.0], p_lr=0.25, num_timesteps=7000)
    logs.write_status(logs.log_run(tmp_path, "s.1", seed=1, evaluations=[3.0], p_lr=0.25), "failed", "<oops>")
    logs.log_run(tmp_path, "s.2", "Ant-v5", evaluations=[3.0], num_timesteps=7000)
    grouped = study(tmp_path)
    rows = tables.runs_table(grouped).rows
    assert [[row[name].text for name in ("run", "state", "steps", "final score", "commit")] for row in rows] == [
        ["s.0", "finished", "4,000", "2.00", "abc1234"],
        ["s.1", "failed", "2,000", "3.00", "abc1234"],
        ["s.2", "finished", "2,000", "3.00", "abc1234"],
    ]
    recipes = list_recipes(grouped)
    changed = [{n: v for n, v in r.changed.items() if n not in ("env_id", "num_workers")} for r in recipes]
    assert {"num_timesteps": "7000", "p_lr": "0.25"} in changed
    assert {"p_lr": "0.25"} in changed
    assert {"num_timesteps": "7000"} in changed
    assert sorted(recipe.command for recipe in recipes) == ["main.py s.0", "main.py s.1", "main.py s.2"]
    assert recipes[0].settings["gamma"] == "0.99"
    assert sum(recipe.title.endswith(" on Hopper-v5") for recipe in recipes) == 2
    text = html(tmp_path)
    assert "--p_lr=0.25" in text
    assert "main.py s.0" in text


def test_time_table_has_time_per_run_and_total_time(tmp_path):
    for seed in (0, 1):
        logs.log_run(tmp_path, f"s.{seed}", seed=seed, training=[1.0] * (10 + 10 * seed))
    (row,) = tables.time_table(study(tmp_path)).rows
    assert [cell.text for cell in list(row.values())[2:]] == ["30 s", "500", "15,000", "60 s", "2", "1"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (1234.5, "1,234"), (-123.44, "−123.4"), (9.999, "10.00"), (0.01234, "0.0123"), (float("nan"), "–")],
)
def test_numbers_have_about_four_digits(value, expected):
    assert tables.number_cell(value).text == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        *((0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "2 h 00 min"), (11_100, "3 h 05 min")),
        *((float("nan"), "–"), (float("inf"), "–")),
    ],
)
def test_durations_have_units(seconds, expected):
    assert format_duration(seconds) == expected
