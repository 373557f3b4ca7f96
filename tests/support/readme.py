"""The commands that the documentation shows: the README, CONTRIBUTING.md and the pages under docs/."""

import re
import shlex

from tests.support import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page):
    """Return the commands in a page's blocks of bash, one line each, without comments."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL):
        text = re.sub(r"[ ]*\\[ ]*(#[^\n]*)?\n\s*", " ", block)
        found += [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in found if line]


def command(start, old, new):
    """Return the first command that starts so and contains `old`, which is replaced, as words; README first."""
    every = [line for page in PAGES for line in commands(page)]
    line = next(line for line in every if line.startswith(start) and old in line)
    return shlex.split(line.replace(old, new))
