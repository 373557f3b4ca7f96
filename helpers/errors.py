"""Exceptions that end a run with a one-line message instead of a traceback."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

MAX_MESSAGE_CHARS = 2000  # messages quote user input of any length


class UserError(ValueError):
    """Invalid user input. Ends the program with a one-line message and exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Return `text` as one printable line, without the middle of a very long text."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if len(text) > MAX_MESSAGE_CHARS:
        text = f"{text[: MAX_MESSAGE_CHARS // 2]} [...] {text[-MAX_MESSAGE_CHARS // 2 :]}"
    return text


def describe_exception(error: BaseException) -> str:
    """Return an exception's type, its message on one line, and where it was raised, e.g. in a user's module."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


class RunError(RuntimeError):
    """A run failed. Ends the program with a one-line message and exit code 1.

    Args:
        message: what happened.
        everywhere: whether all workers raise this error, so that none of them waits for this one.
    """

    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class NonFiniteError(RunError):
    """A value is NaN or infinite.

    Args:
        message: names the value and where it occurred.
        evidence: name → tensor, array or plain value that led to it, for inspection.
        rank: of the worker with the evidence if all workers raise together; None if only this worker raises.
    """

    def __init__(self, message: str, evidence: Mapping[str, Any], rank: int | None = None) -> None:
        super().__init__(message, everywhere=rank is not None)
        self.evidence = evidence
        self.rank = rank


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known names; empty if none is close."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    if not close:
        return ""
    return "; did you mean " + " or ".join(f"'{candidate}'" for candidate in close) + "?"
