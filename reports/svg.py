"""Figures as SVG that follows the light or dark colors of the page."""

from __future__ import annotations

import html
import io
import re
import zlib

from milozero.helpers.drawing import own_style  # noqa: F401  # first: it imports matplotlib without MPLBACKEND

# isort: split
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from milozero.reports.styles import COLORS, GRAY, INK, RULE

CSS_COLORS = {color: f"var(--m{i})" for i, color in enumerate(COLORS)} | {
    INK: "currentColor",
    RULE: "var(--rule)",
    GRAY: "var(--others)",
}
METHOD_ID = "method:"  # prefix of the id of what belongs to a method


def set_method(artist: Artist, index: int) -> None:
    """Let the page fade what belongs to other methods than the one with this index."""
    artist.set_gid(f"{METHOD_ID}{index}")


def to_svg(figure: Figure, title: str) -> str:
    """Return a figure as SVG to embed in HTML, with `title` for screen readers."""
    box, body = to_svg_parts(figure, title)
    return f'<svg viewBox="{box}" role="img" aria-label="{html.escape(title)}">{body}</svg>'


def to_svg_parts(figure: Figure, title: str) -> tuple[str, str]:
    """Return the viewBox and the elements of a figure as SVG.

    Replaces colors with CSS variables and the font with the page's, makes ids unique on the page, and removes the
    figure's own style, which would apply to the whole page.
    """
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    (box,) = re.findall(r'viewBox="([^"]*)"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", body, flags=re.S)
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]*)', body))
    prefix = f"{zlib.crc32((title + body).encode()):08x}"
    body = re.sub(f' id="{METHOD_ID}([0-9]+)"', r' data-method="\1"', body)
    body = re.sub(r' id="([^"]*)"', lambda id: f' id="{prefix}-{id[1]}"' if id[1] in used else "", body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', body).replace("url(#", f"url(#{prefix}-")
    body = re.sub(r"font: ([a-z0-9. ]*px) [^;\"]*", r"font: \1 var(--sans)", body)
    for color, variable in CSS_COLORS.items():
        body = body.replace(color, variable)
    return box, re.sub("\n *", "\n", body).strip()
