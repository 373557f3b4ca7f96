"""What a run tells its user: on the terminal as long as that takes it, and in the log."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

logger = logging.getLogger("milozero")


def say(line: str) -> None:
    """Print a line, and keep it in the log."""
    with contextlib.suppress(OSError, ValueError):  # a full disk or a closed pipe must not cost the run
        print(line, flush=True)
    logger.info(line)


def counted(count: int, thing: str) -> str:
    """Return ``1 run``, ``2 runs``."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


def warn(line: str) -> None:
    """Put a line on stderr; the log has it already."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def tell(line: str) -> None:
    """Put a line on stderr and into the log: the user must know."""
    warn(line)
    logger.warning(line)


def let_go() -> None:
    """Give up what stdout and stderr do not take, so that it does not become the program's exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def logging_restored() -> Iterator[None]:
    """Leave the root logger, its handlers and what becomes of warnings as they were."""
    root = logging.getLogger()
    level, handlers, raises = root.level, list(root.handlers), logging.raiseExceptions
    captured = logging._warnings_showwarning is not None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        logging.raiseExceptions = raises
        logging.captureWarnings(captured)
