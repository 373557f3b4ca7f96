"""Settings: one declaration becomes flag, help line, YAML key and range check.

A setting is a field of a frozen dataclass that stands beside the code that uses it::

    @dataclass(frozen=True, kw_only=True)
    class PPOConfig:
        clip: float = param(0.2, "largest relative change of an action's probability", low=0)

`parse_args` turns a command line, and the YAML file that ``--config`` names, into instances of such
classes. The command line overrides the file, the file overrides the defaults.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import keyword
import math
import os
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from milozero.helpers.errors import UserError, did_you_mean

TRUE = ("true", "yes", "on", "1")
FALSE = ("false", "no", "off", "0")
DIGITS = re.compile("[0-9]{1,9}")  # of one number of a duration
WHOLE = re.compile("[+-]?(0|[1-9][0-9]{0,17})")
NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]{1,3})?")
WORDS = {"true": True, "false": False, "null": None}
MAX_INT = 2**63 - 1  # whole number, what arrays and random generators take
MAX_NAME_BYTES = 255  # bytes of one name in a path
MAX_TEXT_BYTES = 3000  # bytes; Linux allows paths of 4095, and experiments add names of their own
MAX_FLOAT = 3e38  # number that a float setting may have; single precision ends there


@dataclass(frozen=True, kw_only=True)
class Param:
    """What a setting declares besides its name, type and default."""

    help: str
    low: float | None  # smallest value allowed
    high: float | None  # largest value allowed
    above: float | None  # the value must be larger than this
    choices: tuple[Any, ...] | Callable[[], Iterable[str]] | None
    check: Callable[[Any], Any] | None  # raises UserError on a bad value
    bare: str | None  # what the flag means without a value; None where it needs one
    mutable_on_resume: bool  # a resumed run may be given another value
    alias: str  # another name of the flag, or nothing
    secret: bool  # its value is never shown

    def allowed(self) -> tuple[Any, ...] | None:
        """Return the choices, asking for them where they are a table that others extend."""
        return tuple(self.choices()) if callable(self.choices) else self.choices


def param(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] | Callable[[], Iterable[str]] | None = None,
    check: Callable[[Any], Any] | None = None,
    bare: str | None = None,
    mutable_on_resume: bool = False,
    alias: str = "",
    secret: bool = False,
) -> Any:
    """Declare one setting as a dataclass field.

    Args:
        default: value when neither command line nor YAML file gives one.
        help: one line for ``--help`` and the docs.
        low: smallest value allowed.
        high: largest value allowed.
        above: the value must be strictly larger.
        choices: the values allowed, or a function that lists them.
        check: called with the value; raises `UserError` where it is not usable.
        bare: what the flag means where no value follows it.
        mutable_on_resume: a resumed run may be given another value: it goes on being the run it was.
        alias: another name of the flag.
        secret: its value is never shown, nor what was wrong with it quoted.
    """
    declared = Param(
        help=help,
        low=low,
        high=high,
        above=above,
        choices=choices,
        check=check,
        bare=bare,
        mutable_on_resume=mutable_on_resume,
        alias=alias,
        secret=secret,
    )
    return dataclasses.field(default=default, metadata={"param": declared})


def to_seconds(text: str) -> float:
    """Return the seconds of a duration in SLURM's notation.

    ``MM``, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``; empty means no limit (infinity).

    Raises:
        UserError: where the text is none of these.
    """
    if not text:
        return math.inf
    days, dash, clock = text.rpartition("-")
    numbers = clock.split(":")
    if not all(DIGITS.fullmatch(part) for part in numbers + ([days] if dash else [])) or len(numbers) > 3:
        raise UserError(f"cannot read the duration '{text}'; write D-HH:MM:SS, HH:MM:SS, MM:SS or minutes")
    values = [int(part) for part in numbers]
    if dash:
        hours, minutes, seconds = values + [0] * (3 - len(values))
    elif len(values) == 3:
        hours, minutes, seconds = values
    else:
        hours, (minutes, seconds) = 0, [*values, 0][:2]
    return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def to_kwargs(text: str) -> dict[str, Any]:
    """Return name → value of ``name=value,name=value``: true, false, null, numbers as Python writes them, or text.

    Raises:
        UserError: where the text is not of that form.
    """
    kwargs: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or not name.isidentifier() or keyword.iskeyword(name):
            raise UserError(f"cannot read '{part}'; write name=value,name=value")
        if name in kwargs:
            raise UserError(f"'{name}' stands twice")
        kwargs[name] = _word(value)
    return kwargs


def _word(text: str) -> Any:
    """Return what a word stands for. YAML would take 010 for eight, 1:30 for ninety, and on for true."""
    if text in WORDS:
        return WORDS[text]
    for pattern, kind in ((WHOLE, int), (NUMBER, float)):
        if pattern.fullmatch(text) and math.isfinite(float(text)):
            return kind(text)
    return text


def from_kwargs(kwargs: Mapping[str, Any]) -> str:
    """Return the text that `to_kwargs` reads so."""
    words = {value: word for word, value in WORDS.items()}
    return ",".join(
        f"{name}={words[value] if value is None or isinstance(value, bool) else value}"
        for name, value in kwargs.items()
    )


def usable_path(text: str) -> None:
    """Refuse a path that no system could look up; whether something is there is not asked.

    Raises:
        UserError: where a name in it is too long; `coerce` looks at the whole of it.
    """
    if max(len(os.fsencode(name)) for name in text.split("/")) > MAX_NAME_BYTES:
        raise UserError(f"a name in a path has at most {MAX_NAME_BYTES} bytes")


def coerce(value: Any, kind: Any) -> Any:
    """Return `value`, from a command line or a YAML file, as the declared type `kind`.

    PyYAML reads ``1e6`` and ``3e-4`` as strings, and a shell gives nothing else, so text is read by the type
    that was declared.

    Raises:
        ValueError: where the value is not of that kind; the message says what was expected.
    """
    if isinstance(kind, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            return None
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in TRUE + FALSE:
            return str(value).lower() in TRUE
        raise ValueError("expected true or false")
    if value is None or isinstance(value, (bool, list, dict)):
        raise ValueError(f"expected {'text' if kind is str else 'one number'}")
    if kind is str:
        text = str(value)
        if not text.isprintable():
            raise ValueError("expected text that can be printed")  # no file or log could bear a NUL or line break
        if len(text.encode()) > MAX_TEXT_BYTES:
            raise ValueError(f"expected text of at most {MAX_TEXT_BYTES} bytes")
        return text
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("expected a finite number") from None
    except (TypeError, ValueError):
        raise ValueError("expected a whole number" if kind is int else "expected a number") from None
    if not math.isfinite(number):
        raise ValueError("expected a finite number")
    if kind is float:
        return number
    if number != int(number):
        raise ValueError("expected a whole number")
    whole = int(value) if isinstance(value, int) or str(value).lstrip("+-").isdigit() else int(number)
    if whole > MAX_INT:
        raise ValueError(f"must be at most {MAX_INT}")
    return whole


def checked(name: str, value: Any, kind: Any, declared: Param, where: str) -> Any:
    """Return `value` coerced to its type and held against its range; of a tuple, each of its values.

    Raises:
        UserError: naming the setting, where it was given, and what would be right.
    """
    if typing.get_origin(kind) is tuple:
        values = value if isinstance(value, (list, tuple)) else [value]
        return tuple(checked(name, one, typing.get_args(kind)[0], declared, where) for one in values)
    try:
        value = coerce(value, kind)
        if value is None:
            return None
        if isinstance(value, float) and MAX_FLOAT < abs(value) < math.inf:
            raise ValueError(f"must be at most {MAX_FLOAT:g}")
        if declared.low is not None and value < declared.low:
            raise ValueError(f"must be at least {declared.low}")
        if declared.above is not None and value <= declared.above:
            raise ValueError(f"must be above {declared.above}")
        if declared.high is not None and value > declared.high:
            raise ValueError(f"must be at most {declared.high}")
        choices = declared.allowed()
        if choices is not None and value not in choices:
            raise ValueError(f"must be one of {', '.join(map(str, choices))}")
        if declared.check is not None:
            declared.check(value)
    except ValueError as error:
        raise UserError(f"{where}: {name}={'...' if declared.secret else value}: {error}") from None
    return value


@functools.cache
def declared_settings(cls: type) -> Mapping[str, tuple[Any, Any, Param]]:
    """Return name → (type, default, declaration) of every setting in a config class."""
    kinds = typing.get_type_hints(cls)
    return {f.name: (kinds[f.name], f.default, f.metadata["param"]) for f in dataclasses.fields(cls)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=118)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Keep the lines that a text has, and go on with a longer one further in."""
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


def _add_flag(group: Any, name: str, kind: Any, default: Any, declared: Param) -> None:
    choices = declared.allowed()
    shown = "automatic" if default is None else "none" if default in ("", ()) else default
    told = "" if "(default" in declared.help else f" (default: {shown})"
    text = f"{declared.help}{told}".replace("%", "%%")
    more: dict[str, Any] = {} if declared.bare is None else {"nargs": "?", "const": declared.bare}
    if typing.get_origin(kind) is tuple:
        more = {"nargs": "+"}
    if kind is bool or bool in typing.get_args(kind):
        group.add_argument(f"--{name}", dest=name, action="store_const", const=True, help=text)
        group.add_argument(f"--no-{name}", dest=name, action="store_const", const=False, help=argparse.SUPPRESS)
        return
    plain = next((part for part in typing.get_args(kind) if part is not type(None)), kind)
    metavar = "{" + ",".join(map(str, choices)) + "}" if choices else plain.__name__.upper()
    names = [f"--{each}" for each in (name, declared.alias) if each]
    group.add_argument(*names, dest=name, metavar=metavar, help=text, **more)


def build_parser(prog: str, description: str, epilog: str, groups: Mapping[str, type]) -> argparse.ArgumentParser:
    """Return a parser with one help group per config class; every flag defaults to "not given"."""
    parser = _Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=_Help,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        usage="%(prog)s [--flag=value ...] [--switch | --no-switch ...]",
    )
    for title, cls in groups.items():
        group = parser.add_argument_group(title)
        for name, (kind, default, declared) in declared_settings(cls).items():
            _add_flag(group, name, kind, default, declared)
    return parser


def read_flags(parser: argparse.ArgumentParser, argv: Sequence[str]) -> dict[str, Any]:
    """Return name → value of the flags given on a command line.

    Raises:
        UserError: for an unknown flag, with the nearest right one, or a missing value.
    """
    given, unknown = parser.parse_known_args(list(argv))
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        word = unknown[0].split("=")[0]
        raise UserError(f"unknown argument '{word}'{did_you_mean(word, flags)} (see {parser.prog} -h)")
    return vars(given)


def to_flags(values: Mapping[str, Any]) -> list[str]:
    """Return the command line that gives settings these values; None, which is always a default, is left out."""
    switches = {True: "--{}", False: "--no-{}"}
    return [
        switches[value].format(name) if isinstance(value, bool) else f"--{name}={value}"
        for name, value in values.items()
        if value is not None
    ]


def build(cls: type, flags: Mapping[str, Any], file: Mapping[str, Any], path: str = "") -> Any:
    """Return a `cls` instance: flags over file values over defaults, each checked.

    Raises:
        UserError: for a value of the wrong type or out of range.
    """
    values = {}
    for name, (kind, _default, declared) in declared_settings(cls).items():
        if name in flags:
            values[name] = checked(f"--{name}", flags[name], kind, declared, "command line")
        elif name in file:
            values[name] = checked(name, file[name], kind, declared, path)
    return cls(**values)
