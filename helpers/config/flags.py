"""Command-line flags of config classes."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from milozero.helpers.config.foreign_flags import FOREIGN_FLAGS
from milozero.helpers.config.params import Param, declared_settings
from milozero.helpers.errors import UserError, did_you_mean

PIPE_COLUMNS = 118  # of the help, if it is not printed to a terminal
MAX_METAVAR = 60  # characters of the choices beside a flag; longer ones are listed in its help


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if match := re.fullmatch(r"argument --([^\s/]+)\S*: ignored explicit argument .*", message):
            name = match[1]
            message = f"--{name} takes no value: write --{name}, or --no-{name}"
        raise UserError(message)


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=shutil.get_terminal_size((PIPE_COLUMNS, 1)).columns)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Keep line breaks, and indent the continuation of long lines."""
        further = indent + " " * 4
        return "\n".join(
            textwrap.fill(line, width, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False)
            for line in text.splitlines()
        )

    def _format_action_invocation(self, action: argparse.Action) -> str:
        flags = "/".join(action.option_strings)
        if action.nargs == "?":
            return f"{flags}[={action.metavar}]"
        more = f" [{action.metavar} ...]" if action.nargs == "+" else ""
        return flags if action.nargs == 0 else f"{flags}={action.metavar}{more}"


def build_parser(
    prog: str, description: str, epilog: str, groups: Mapping[str, type], *, add_help: bool = True
) -> argparse.ArgumentParser:
    """Return a parser with one help group per config class; it only returns flags that were given.

    `groups` maps titles to config classes; a setting that several of them declare becomes one flag. Without
    `add_help`, ``-h`` sets ``help`` instead of printing it.
    """
    parser = _Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
        add_help=add_help,
        argument_default=argparse.SUPPRESS,
        usage="%(prog)s [--flag=value ...] [--switch | --no-switch ...]",
    )
    if not add_help:
        parser.add_argument("-h", "--help", action="store_true")
    added: set[str] = set()
    for title, cls in groups.items():
        group = parser.add_argument_group(title)
        for name, (kind, default, declared) in declared_settings(cls).items():
            if name not in added:
                added.add(name)
                _add_flag(group, name, kind, default, declared)
    return parser


def is_switch(kind: Any) -> bool:
    """Return whether a setting of this type is set by ``--name`` and ``--no-name``."""
    return kind is bool or bool in typing.get_args(kind)


def _add_flag(group: Any, name: str, kind: Any, default: Any, declared: Param) -> None:
    choices = declared.allowed() or ()
    shown = "automatic" if default is None else "none" if default in ("", ()) else default
    suffix = "" if "(default" in declared.help else f" (default: {shown})"
    text = f"{declared.help}{suffix}".replace("%", "%%")
    if is_switch(kind):
        group.add_argument(f"--{name}", dest=name, action=argparse.BooleanOptionalAction, help=text)
        return
    more: dict[str, Any] = {} if declared.bare is None else {"nargs": "?", "const": declared.bare}
    if typing.get_origin(kind) is tuple:
        more = {"nargs": "+", "action": "extend"}
    plain = next((part for part in typing.get_args(kind) if part is not type(None)), kind)
    metavar = "{" + ",".join(map(str, choices)) + "}" if choices else plain.__name__.upper()
    if len(metavar) > MAX_METAVAR:
        metavar, text = name.upper(), f"{text}; one of {', '.join(map(str, choices))}"
    names = [f"--{flag}" for flag in (name, declared.alias) if flag]
    action = group.add_argument(*names, dest=name, metavar=metavar, help=text, **more)
    action.values, action.is_path = choices, declared.is_path


def read_flags(
    parser: argparse.ArgumentParser, argv: Sequence[str], suggest: Callable[[str], str] = lambda name: ""
) -> dict[str, Any]:
    """Return name → value of the flags on a command line.

    `suggest` returns the end of the message for the name of an unknown flag, or nothing.

    Raises:
        UserError: if a flag is unknown (the message suggests the right one) or a value is missing.
    """
    flags, unknown = parser.parse_known_args(list(argv))
    if unknown and "help" not in flags:
        word = unknown[0].split("=")[0]
        names = [flag for action in parser._actions for flag in action.option_strings]
        hint = (
            suggest(word.removeprefix("--"))
            or _find_own_name(word, names)
            or _find_value(word, parser)
            or did_you_mean(word, names)
        )
        raise UserError(f"unknown argument '{word}'{hint} (see {parser.prog} -h)")
    return vars(flags)


def _find_own_name(word: str, names: Sequence[str]) -> str:
    """Return our name for a flag with hyphens or of another library; empty if there is none."""
    if not word.startswith("--"):
        return ""
    key = word.removeprefix("--").replace("-", "_")
    own = {name.removeprefix("--").replace("-", "_"): name for name in names if name.startswith("--")}
    hint = own.get(key) or FOREIGN_FLAGS.get(key, "")
    if not hint.startswith("--"):
        return f": {hint}" if hint else ""
    flag = hint.split()[0].partition("=")[0].rstrip(",")
    return f": here it is {hint}" if flag in names else ""


def _find_value(word: str, parser: argparse.ArgumentParser) -> str:
    """Return the flag that has this value among its choices, e.g. for ``train``; empty if there is none."""
    for action in parser._actions:
        if word in getattr(action, "values", ()):
            return f": write {action.option_strings[0]}={word}"
    return ""


def to_flags(values: Mapping[str, Any]) -> list[str]:
    """Return the flags that set these values, without None, which is always a default."""
    switches = {True: "--{}", False: "--no-{}"}
    return [
        switches[value].format(name) if isinstance(value, bool) else f"--{name}={value}"
        for name, value in values.items()
        if value is not None
    ]
