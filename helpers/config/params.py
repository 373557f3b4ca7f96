"""Settings: a single declaration defines the flag, its help text, the YAML key and the range check.

A setting is a field of a frozen dataclass, declared next to the code that uses it::

    @dataclass(frozen=True, kw_only=True)
    class PPOConfig:
        clip_range: float = param(0.2, "clip range of the probability ratio", above=0)

`build` creates an instance. Flags override the task file, the task file overrides the defaults.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from milozero.helpers.config.values import MAX_FLOAT, coerce
from milozero.helpers.errors import UserError

MAX_COMPONENT_BYTES = 255  # of a path's component
MAX_NAME_BYTES = 200  # of an experiment or evaluation, whose files have longer names


@dataclass(frozen=True, kw_only=True)
class Param:
    """The declaration of a setting, without its name, type and default."""

    help: str  # one line for -h and the docs
    low: float | None = None  # smallest allowed value
    high: float | None = None  # largest allowed value
    above: float | None = None  # exclusive lower bound
    choices: tuple[Any, ...] | Callable[[], Iterable[str]] | None = None  # allowed values, or a function for them
    check: Callable[[Any], Any] | None = None  # raises `UserError` if the value is invalid
    bare: str | None = None  # value of the flag if none follows it; None if the flag requires a value
    mutable_on_resume: bool = False  # whether a resumed run accepts another value
    alias: str = ""  # another name of the flag
    secret: bool = False  # whether error messages must not show the value
    is_path: bool = False  # whether it is a path on this machine, in which ~ is the home folder

    def allowed(self) -> tuple[Any, ...] | None:
        """Return the choices; a callable is called each time, because users can extend registries."""
        return tuple(self.choices()) if callable(self.choices) else self.choices


def param(default: Any, help: str, **options: Any) -> Any:
    """Declare a setting as a dataclass field; `options` are the fields of `Param`."""
    return dataclasses.field(default=default, metadata={"param": Param(help=help, **options)})


@functools.cache
def declared_settings(cls: type) -> Mapping[str, tuple[Any, Any, Param]]:
    """Return name → (type, default, declaration) of every setting in a config class."""
    kinds = typing.get_type_hints(cls)
    return {f.name: (kinds[f.name], f.default, f.metadata["param"]) for f in dataclasses.fields(cls)}


def expand_path(text: str) -> str:
    """Return a path, which need not exist, with ``~`` expanded: shells do not expand it in ``--data_dir=~/data``.

    Raises:
        UserError: if there is no such home folder, or a component is too long for any file system.
    """
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise UserError(f"there is no home folder {path.split('/')[0]}; write ./{path} for a file of that name")
    usable_path(path)
    return path


def usable_path(text: str) -> None:
    """Check a path or an address; a `check` for `param`.

    Raises:
        UserError: if a component is too long for any file system.
    """
    if max(len(os.fsencode(name)) for name in text.split("/")) > MAX_COMPONENT_BYTES:
        raise UserError(f"each component of a path has at most {MAX_COMPONENT_BYTES} bytes")


def usable_name(text: str) -> None:
    """Check a folder name, which may be empty; a `check` for `param`.

    Raises:
        UserError: if it is a path or too long.
    """
    if os.path.basename(text) != text or text in (".", ".."):
        raise UserError("must be a name, not a path")
    if len(text.encode()) > MAX_NAME_BYTES:
        raise UserError(f"must be at most {MAX_NAME_BYTES} bytes long")


def build(cls: type, flags: Mapping[str, Any], file: Mapping[str, Any], path: str = "") -> Any:
    """Return an instance of a config class.

    Args:
        cls: the config class.
        flags: name → value from the command line; other names are ignored.
        file: name → value from the task file; other names are ignored.
        path: of the task file, for error messages.

    Raises:
        UserError: if a value has the wrong type or is out of range.
    """
    values = {}
    for name, (kind, _default, declared) in declared_settings(cls).items():
        if name in flags:
            values[name] = _convert(f"--{name}", flags[name], kind, declared, "command line")
        elif name in file:
            values[name] = _convert(name, file[name], kind, declared, path)
    return cls(**values)


def _convert(name: str, value: Any, kind: Any, declared: Param, source: str) -> Any:
    """Return `value`, converted to its declared type and checked; for a tuple type, element by element."""
    if typing.get_origin(kind) is tuple:
        values = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_convert(name, element, typing.get_args(kind)[0], declared, source) for element in values)
    try:
        value = coerce(value, kind)
        if declared.is_path:
            value = expand_path(value)
        if value is not None:
            _check_range(value, declared)
    except ValueError as error:
        raise UserError(f"{source}: {name}={'...' if declared.secret else value}: {error}") from None
    return value


def _check_range(value: Any, declared: Param) -> None:
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
