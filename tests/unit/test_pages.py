"""What the documentation says of the code, checked without building the site."""

import re

import pytest

from tests.support import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    new = set(re.findall(r"`([a-z_/]+\.py)`:$", text, re.MULTILINE))  # those whose content follows
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|sh|yaml|md))`", text))
    assert [name for name in sorted(named - new) if not (ROOT / name).exists()] == []
