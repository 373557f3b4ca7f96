"""Hooks of mkdocs: link to the repository, include files from outside docs/ that pages link to, and render formulas.

Pages are written to be read in the repository. The hooks make their links to files outside ``docs/`` work on the site
too. Formulas become MathML, which browsers draw without scripts or network.
"""

from __future__ import annotations

import contextlib
import html
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")  # a link to a file outside docs/
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def web_address(remote: str) -> str:
    """Return the address of a git remote's web page, without user name or password; empty if it has none."""
    if match := re.fullmatch(r"[\w.-]+@([\w.-]+):([^/].*)", remote):  # git@host:owner/name.git
        remote = f"ssh://{match[1]}/{match[2]}"
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
        return ""
    host = parts.netloc.rpartition("@")[2] if parts.scheme.startswith("http") else parts.hostname  # with its port
    return f"https://{host}{parts.path.removesuffix('.git')}"


def on_config(config: Any) -> Any:
    """Link to the repository that the site is built from: mkdocs' `repo_url` would fetch from its server."""
    remote = ""
    with contextlib.suppress(OSError):  # git is not installed
        command = ["git", "remote", "get-url", "origin"]
        remote = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    if address := web_address(remote.strip()):
        config.nav.append({"Repository": address})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages in the repository's root, and the files that pages link to."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text().replace("](docs/", "](")))
    linked = {path for page in Path(config.docs_dir).glob("*.md") for path in OUTSIDE.findall(page.read_text())}
    for path in sorted(linked - set(PAGES.values())):
        if (ROOT / path).is_file():
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Redirect links to the repository's root to the files that `on_files` added beside the pages."""
    pages = {source: page for page, source in PAGES.items()}
    return OUTSIDE.sub(lambda link: f"]({pages.get(link[1], link[1])}", markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Draw the formulas."""

    def draw(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        return convert(html.unescape(match[3]), display=display)

    return FORMULA.sub(draw, content)
