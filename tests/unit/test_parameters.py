"""docs/parameters.md matches the declared settings."""

import re

from make_reference import parameters_page

from milozero.experiment.settings import all_settings_names
from tests.support import ROOT

PAGE = ROOT / "docs" / "parameters.md"


def test_page_is_up_to_date():
    assert PAGE.read_text() == parameters_page(), "run: python docs/make_reference.py"


def test_page_documents_every_parameter_of_every_algorithm():
    documented = set(re.findall(r"^\| `(\w+)`", parameters_page(), flags=re.MULTILINE))
    assert all_settings_names() <= documented


def test_table_cells_contain_no_bars_or_tags():
    """A bar would start another cell, and a tag would not be displayed."""
    for line in parameters_page().splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
            assert not re.search(r"<\w", re.sub(r"`[^`]*`", "", line)), line
