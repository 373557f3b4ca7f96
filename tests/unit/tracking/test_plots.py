"""The learning curve of a run, with any name, numbers and matplotlib settings."""

import imageio.v2
import matplotlib as mpl
import numpy as np
import pytest

from milozero.tracking.plots import draw_learning_curve, plot_learning_curve

ROWS = ("1,100,1.0,", "2,200,2.0,3.0", "3,300,4.0,5.0")


@pytest.fixture
def draw(tmp_path):
    def draw(title="a", rows=ROWS):
        (tmp_path / "progress.csv").write_text("\n".join(["iteration,timesteps,return_mean,eval_return", *rows, ""]))
        plot_learning_curve(tmp_path / "progress.csv", tmp_path / "a.png", title, expert_return=6.0)
        return imageio.v2.imread(tmp_path / "a.png")

    return draw


@pytest.mark.parametrize("name", ["pay$$", "$\\frac$", "漢字 é"])
def test_name_is_text_and_not_math(draw, name):
    assert draw(name).shape == (540, 960, 4)


def test_users_style_changes_nothing(draw):
    expected = draw()
    with mpl.rc_context({"text.usetex": True, "savefig.dpi": 10, "savefig.bbox": "tight", "axes.facecolor": "k"}):
        assert (draw() == expected).all()


@pytest.mark.parametrize("value", ["1e308", "-1e308", "inf"])
def test_huge_number_is_not_drawn(draw, value):
    assert draw(rows=[*ROWS, f"4,400,{value},{value}"]).shape == (540, 960, 4)


@pytest.mark.parametrize(("axis", "label"), [("timesteps", "environment steps"), ("iteration", "iterations")])
def test_legend_and_expert_do_not_hide_the_data(axis, label):
    names = ("iteration", "timesteps", "return_mean", "return_mean_100", "eval_return")
    columns = {name: np.array([-14.5, 1000.0]) for name in names}
    title = f"ppo on Hopper-v5: {'long_' * 20}"
    figure = draw_learning_curve(columns, title, 6.0, axis)
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    box, expert = legend.get_window_extent(), axes.lines[0]
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert not box.overlaps(axes.get_window_extent())
    assert legend.get_texts()[0].get_text() == expert.get_label() == "expert"
    assert expert.get_zorder() < min(line.get_zorder() for line in axes.lines[1:])
    assert (axes.get_xlabel(), axes.get_title()) == (label, title)
    assert axes.title.get_window_extent().width < figure.bbox.width
    assert {"1,000", "−200"} <= {text.get_text() for text in axes.get_yticklabels()}
