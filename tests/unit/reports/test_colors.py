"""Readers, including color-blind ones, can distinguish the colors of methods in light and dark mode."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from milozero.reports import styles

STYLE = (Path(styles.__file__).parent / "page.css").read_text()
LIGHT, DARK = np.array(re.findall("--m[0-9]: (#[0-9a-f]{6})", STYLE)).reshape(2, -1).tolist()
PALETTES = {"light": LIGHT, "dark": DARK}
# How the dichromat sees linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "all": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color):
    """Return the linear RGB (3,) of ``#rrggbb``."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Return CIELAB (3,) of linear RGB, whose distances match perception."""
    x, y, z = np.cbrt(XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("mode", PALETTES)
def test_every_two_colors_differ_clearly(mode, eyes):
    seen = {color: lab(np.array(EYES[eyes]) @ linear(color)) for color in PALETTES[mode]}
    distance = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)}
    assert min(distance.values()) > 14, min(distance, key=distance.get)


@pytest.mark.parametrize(("mode", "paper"), [("light", "#ffffff"), ("dark", "#1a1d21")])
def test_every_color_stands_out_from_the_paper(mode, paper):
    def contrast(color):
        bright, dim = sorted((XYZ[1] @ linear(color), XYZ[1] @ linear(paper)), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    assert min(map(contrast, PALETTES[mode])) > (2.2 if mode == "light" else 3)


def test_plots_and_page_have_the_same_colors():
    assert tuple(PALETTES["light"]) == styles.COLORS
