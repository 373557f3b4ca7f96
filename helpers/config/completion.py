"""Shell completion of flags and their values, by argcomplete: the shell starts the program for each completion."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

VARIABLE = "_ARGCOMPLETE"  # set by the shell


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions of the command line that the shell passes in its variables, and exit."""
    import argcomplete
    from argcomplete.completers import ChoicesCompleter, FilesCompleter

    action: Any
    for action in parser._actions:
        # Not argparse's own choices: values are checked where those of task files are.
        choices: Any = tuple(map(str, getattr(action, "values", ())))
        # No choices: argcomplete would offer files. Its SuppressCompleter would hide the flag itself.
        action.completer = FilesCompleter() if getattr(action, "is_path", False) else ChoicesCompleter(choices)
    argcomplete.autocomplete(parser)


def find_value(line: str, flag: str, choices: Sequence[str]) -> str | None:
    """Return the value of a flag on an unfinished command line; None unless it is one of `choices`."""
    values = re.findall(rf"\s--{flag}[=\s]\s*(\S+)(?=\s)", line)
    return values[-1] if values and values[-1] in choices else None
