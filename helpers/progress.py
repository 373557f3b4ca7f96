"""A progress bar on stderr, where that is a terminal."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator

T = typing.TypeVar("T")


def with_progress(items: Iterable[T], description: str = "reading", total: float | None = None) -> Iterator[T]:
    """Yield `items`; a terminal shows how far that is.

    Args:
        items: to go through.
        description: what is being done.
        total: number of items; needed where `items` has no length.
    """
    from rich.console import Console  # takes 0.1 s, for nothing where no terminal looks on
    from rich.progress import track

    errors = Console(stderr=True)
    yield from track(items, description, total, console=errors, transient=True, disable=not errors.is_terminal)
