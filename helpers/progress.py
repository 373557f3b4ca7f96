"""A progress bar on stderr, shown only on a terminal and without ``--quiet``."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator

from milozero.helpers.logging import is_quiet

T = typing.TypeVar("T")


def with_progress(items: Iterable[T], description: str = "reading", total: float | None = None) -> Iterator[T]:
    """Yield `items` and show a progress bar; `total` is required if `items` has no length."""
    from rich.console import Console  # takes 0.1 s
    from rich.progress import track

    errors = Console(stderr=True)
    hidden = is_quiet() or not errors.is_terminal
    yield from track(items, description, total, console=errors, transient=True, disable=hidden)
