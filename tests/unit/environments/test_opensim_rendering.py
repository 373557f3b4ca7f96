"""Frames of OpenSim's environments."""

import numpy as np
import pytest

from milozero.environments.opensim import stick_figure
from tests.support.suites import make_unwrapped


def find_center(color, frame):
    """Return the column and row of the center of the pixels with a color."""
    rows, columns = np.nonzero((frame == color).all(axis=-1))
    return (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2


@pytest.mark.parametrize("center", [(0.0, 0.8), (5.0, 0.8), (-3.0, 1.0)])
def test_frame_is_centered(center):
    env = make_unwrapped("OsimL2Run-v0")
    env.reset(seed=0)
    target = (*center, 0.4)
    frame = stick_figure.StickFigure(env.simulator, 3.0, {}).draw(center, "", [target], None)
    assert find_center(stick_figure.TARGET_COLOR, frame) == pytest.approx((320, 240), abs=2)


def test_ground_is_labeled_at_whole_meters(monkeypatch):
    env = make_unwrapped("OsimL2Run-v0")
    env.reset(seed=0)
    labels = []
    monkeypatch.setattr(
        "PIL.ImageDraw.ImageDraw.text", lambda self, position, text, **_: labels.append((text, position[0]))
    )
    stick_figure.StickFigure(env.simulator, 3.0, {}).draw((0.2, 0.8), "", [], None)
    meters = {text: column for text, column in labels if text.endswith(" m")}
    assert list(meters) == ["-1 m", "0 m", "1 m"]
    for left, right in (("-1 m", "0 m"), ("0 m", "1 m")):
        assert meters[right] - meters[left] == pytest.approx(stick_figure.FRAME_WIDTH_PX / 3)


def test_map_marks_the_end_of_the_path():
    env = make_unwrapped("OsimL2Run-v0")
    env.reset(seed=0)
    figure, dots = stick_figure.StickFigure(env.simulator, 3.0, {}), []
    for x, y in ((0.0, 0.0), (5.0, 0.0), (0.0, 5.0), (50.0, 0.0), (-50.0, 50.0)):  # forward is up on the map
        frame = figure.draw((0.0, 0.8), "", [], ([(0.0, 0.0), (1.0, 1.0), (x, y)], []))
        dots.append(find_center(stick_figure.POSITION_COLOR, frame))
    quarter = stick_figure.MAP_SIZE_PX / 4
    assert np.subtract(dots[1], dots[0]) == pytest.approx([0, -quarter], abs=1)
    assert np.subtract(dots[2], dots[0]) == pytest.approx([-quarter, 0], abs=1)
    assert np.subtract(dots[3], dots[0]) == pytest.approx([0, -2 * quarter], abs=1)  # beyond the map: at its edge
    assert np.subtract(dots[4], dots[0]) == pytest.approx([-2 * quarter, 2 * quarter], abs=1)
