"""The commands that the documentation shows: the README, CONTRIBUTING.md and the pages under docs/."""

import re
import shlex

from tests.support import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page):
    """Return the commands in a page's blocks of bash, one line each, without comments."""
    lines = []
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL):
        lines += re.sub(r" *\\\n\s*", " ", block).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def command(start, old, new):
    """Return the words of the first command that starts with `start` and contains `old`, replaced by `new`."""
    lines = [line for page in PAGES for line in commands(page)]
    line = next(line for line in lines if line.startswith(start) and old in line)
    return shlex.split(line.replace(old, new))
