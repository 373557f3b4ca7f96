"""The commands that the README shows."""

import re
import shlex

from tests.support import ROOT

README = ROOT / "README.md"


def command(start, old, new):
    """Return the README's command that starts so, without comments and line breaks, `old` replaced, as words."""
    text = re.sub(r"[ ]*\\[ ]*(#[^\n]*)?\n\s*", " ", README.read_text())
    line = next(line for line in text.splitlines() if start in line)
    line = re.sub(r"\s#.*", "", line[line.index(start) :]).strip()
    assert old in line
    return shlex.split(line.replace(old, new))
