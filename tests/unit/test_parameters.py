import re

from make_reference import parameters_page

from milozero.experiment.settings import all_settings_names
from tests.support import ROOT

PAGE = ROOT / "docs" / "parameters.md"


def test_page_is_what_the_code_declares():
    assert PAGE.read_text() == parameters_page(), "run: python docs/make_reference.py"


def test_every_parameter_of_every_algorithm_is_there():
    documented = set(re.findall(r"^\| `(\w+)`", parameters_page(), flags=re.MULTILINE))
    assert all_settings_names() <= documented


def test_tables_are_whole():
    """A bar within a cell would be an edge, and what looks like a tag would vanish."""
    for line in parameters_page().splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
            assert not re.search(r"<\w", re.sub(r"`[^`]*`", "", line)), line
