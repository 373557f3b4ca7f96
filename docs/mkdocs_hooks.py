"""What mkdocs does for this documentation besides: files of the repository that pages link to, and formulas.

Pages are written for whoever reads them in the repository; here their links to what lies outside ``docs/`` are made
to work on the site as well. Formulas become MathML, which browsers draw by themselves: no script, no network.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")  # a link to what is not in docs/
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie in the repository's root, and what pages link to there."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text().replace("](docs/", "](")))
    linked = {path for page in Path(config.docs_dir).glob("*.md") for path in OUTSIDE.findall(page.read_text())}
    for path in sorted(linked - set(PAGES.values())):
        if (ROOT / path).is_file():
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to the repository's root find what `on_files` has put beside the pages."""
    pages = {source: page for page, source in PAGES.items()}
    return OUTSIDE.sub(lambda link: f"]({pages.get(link[1], link[1])}", markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Draw the formulas."""

    def draw(found: re.Match[str]) -> str:
        display = "block" if found[2] == "[" else "inline"
        return convert(html.unescape(found[3]), display=display)

    return FORMULA.sub(draw, content)
