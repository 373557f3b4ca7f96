"""The exceptions that end a run with one line and no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST = 2000  # characters of a message; what a user gave stands in it, whatever that is


class UserError(ValueError):
    """Something the user wrote or gave is wrong: one line, exit code 2, no traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Return `text` on one line that every terminal can show, its middle left out where it is very long."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"


class RunError(RuntimeError):
    """A run cannot go on, or did not end as it should: one line, exit code 1, no traceback.

    Args:
        message: what happened.
        everywhere: whether all workers have come to it, so that none of them waits for this one.
    """

    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class NonFiniteError(RunError):
    """A NaN or an infinite number where there must be none.

    Args:
        message: names what is not finite, and where.
        evidence: name → tensor, array or plain value: what it came from, for inspection.
        rank: of the worker whose evidence it is, where all workers raise together; None where one does.
    """

    def __init__(self, message: str, evidence: Mapping[str, Any], rank: int | None = None) -> None:
        super().__init__(message, everywhere=rank is not None)
        self.evidence = evidence
        self.rank = rank


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or nothing when none is near."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    if not near:
        return ""
    return "; did you mean " + " or ".join(f"'{candidate}'" for candidate in near) + "?"
