"""Files that the documentation mentions exist, and its commands can be pasted; this needs no build of the site."""

import re

import pytest

from tests.support import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    shown = set(re.findall(r"`([a-z_/]+\.py)`:$", text, re.MULTILINE))  # files whose content the page shows
    mentioned = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|sh|yaml|md))`", text))
    assert [name for name in sorted(mentioned - shown) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_comments_stand_above_the_commands(page):
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert [line for line in lines if re.search(r"\S\s+#", line)] == []
