"""Parse values from the command line and from task files."""

from __future__ import annotations

import keyword
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from milozero.helpers.errors import UserError

TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")
DURATION_PART = re.compile("[0-9]{1,9}")
INT_KWARG = re.compile("[+-]?(0|[1-9][0-9]{0,17})")
FLOAT_KWARG = re.compile(r"[+-]?((0|[1-9][0-9]*)([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]{1,3})?")
KWARG_CONSTANTS = {"true": True, "false": False, "null": None}
MAX_FLOAT = 3e38  # limit of single precision
MAX_INT = 2**63 - 1  # int64, as arrays and random generators use it
MAX_TEXT_BYTES = 3000  # Linux allows paths of 4095 bytes, and experiments append file names


def to_seconds(text: str) -> float:
    """Return the seconds of a duration in Slurm's notation.

    ``MM``, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``. Empty text means no limit (infinity).

    Raises:
        UserError: if the text has another form.
    """
    if not text:
        return math.inf
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(DURATION_PART.fullmatch(part) for part in parts + ([days] if dash else [])) or len(parts) > 3:
        raise UserError(f"invalid duration '{text}'; write D-HH:MM:SS, HH:MM:SS, MM:SS or minutes")
    values = [int(part) for part in parts]
    if not dash and len(values) < 3:  # without hours
        values.insert(0, 0)
    hours, minutes, seconds = [*values, 0, 0][:3]
    return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def to_kwargs(text: str) -> dict[str, Any]:
    """Return the name → value mapping of ``name=value,name=value``.

    Values are ``true``, ``false``, ``null``, numbers in Python's notation, or text.

    Raises:
        UserError: if the text has another form.
    """
    kwargs: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or not name.isidentifier() or keyword.iskeyword(name):
            raise UserError(f"cannot parse '{part}'; write name=value,name=value")
        if name in kwargs:
            raise UserError(f"duplicate key '{name}'")
        kwargs[name] = _parse_kwarg(value)
    return kwargs


def _parse_kwarg(text: str) -> Any:
    """Parse one value. YAML would read 010 as eight, 1:30 as ninety and on as true."""
    if text in KWARG_CONSTANTS:
        return KWARG_CONSTANTS[text]
    for pattern, kind in ((INT_KWARG, int), (FLOAT_KWARG, float)):
        if pattern.fullmatch(text) and math.isfinite(float(text)):
            return kind(text)
    return text


def from_kwargs(kwargs: Mapping[str, Any]) -> str:
    """Return the text that `to_kwargs` parses into `kwargs`."""
    words = {value: word for word, value in KWARG_CONSTANTS.items()}
    return ",".join(
        f"{name}={words[value] if value is None or isinstance(value, bool) else value}"
        for name, value in kwargs.items()
    )


def is_plain(value: Any) -> bool:
    """Return whether a value is a string, bool, None or single-precision number, like settings and metrics."""
    if isinstance(value, int | float):
        return not abs(value) > MAX_FLOAT
    return value is None or isinstance(value, str)


def coerce(value: Any, kind: Any) -> Any:
    """Return `value`, from a command line or a YAML file, converted to the declared type `kind`.

    Text is parsed by the declared type: shells only pass text, and PyYAML reads ``1e6`` and ``3e-4`` as text.

    Raises:
        ValueError: if the value has another type; the message states the expected one.
    """
    if isinstance(kind, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            return None
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if kind is bool:
        return _to_bool(value)
    if value is None or isinstance(value, (bool, list, dict)):
        raise ValueError(f"expected {'text' if kind is str else 'one number'}")
    return _to_text(value) if kind is str else _to_number(value, kind)


def _to_bool(value: Any) -> bool:
    word = str(value).lower()
    if word not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError("expected true or false")
    return word in TRUE_WORDS


def _to_text(value: Any) -> str:
    text = str(value)
    if not text.isprintable():  # file names and logs cannot hold NULs or line breaks
        raise ValueError("expected printable text")
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise ValueError(f"expected text of at most {MAX_TEXT_BYTES} bytes")
    return text


def _to_number(value: Any, kind: type[int] | type[float]) -> int | float:
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
