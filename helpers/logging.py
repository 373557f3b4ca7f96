"""Log messages to the terminal and to a run's log.txt.

`logger` is for users: it prints INFO to stdout, and warnings and errors to stderr, prefixed ``warning: `` and
``error: ``. With ``--quiet``, the only INFO messages are results (`log_result`). Messages of other loggers only go to
log.txt.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import sys
import traceback
from collections.abc import Iterator

from milozero.helpers.errors import UserError

logger = logging.getLogger("milozero")
ALWAYS_PRINTED = {"is_always_printed": True}  # ``extra`` of an INFO message that ``--quiet`` does not hide


class TerminalHandler(logging.Handler):
    """Prints the messages of `logger`, ignoring full disks and broken pipes."""

    quiet = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        if record.name != logger.name or (self.quiet and not _is_always_printed(record)):
            return
        prefix = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        lines = [prefix + record.getMessage()]
        if record.exc_info:
            lines.insert(0, "".join(traceback.format_exception(*record.exc_info)).rstrip())
        with contextlib.suppress(OSError, ValueError):
            print("\n".join(lines), file=sys.stderr if prefix else sys.stdout, flush=True)


def _is_always_printed(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or any(hasattr(record, name) for name in ALWAYS_PRINTED)


def log_result(message: str) -> None:
    """Log the result of a command, which is also printed with ``--quiet``."""
    logger.info(message, extra=ALWAYS_PRINTED)


def set_quiet() -> None:
    """Print only warnings, errors and results until `log_to_terminal` exits."""
    for handler in _terminal_handlers():
        handler.quiet = True


def is_quiet() -> bool:
    """Return whether only warnings, errors and results are printed, and no tables or progress bars."""
    return any(handler.quiet for handler in _terminal_handlers())


def _terminal_handlers() -> list[TerminalHandler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, TerminalHandler)]


def _open_streams() -> None:
    """Make stdin, stdout and stderr usable even if they are closed or cannot encode all characters."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # reserves the descriptor; the next opened file would get the output
        stream = getattr(sys, name)
        if stream is None:  # it was closed when Python started
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict" and mode == "w":
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def convert_output_errors() -> Iterator[None]:
    """Convert an error of writing to stdout, e.g. to a full disk, into a `UserError`; also usable as a decorator."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to stdout: {error.strerror}") from None


@contextlib.contextmanager
def log_to_terminal() -> Iterator[None]:
    """Print log messages to the terminal; on exit, restore the previous logging configuration."""
    _open_streams()
    root = logging.getLogger()
    level, handlers, raises = root.level, list(root.handlers), logging.raiseExceptions
    captured = logging._warnings_showwarning is not None  # type: ignore[attr-defined]
    root.addHandler(TerminalHandler())
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # or each write to a full disk would print a traceback
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        logging.raiseExceptions = raises
        logging.captureWarnings(captured)


def pluralize(count: int, noun: str) -> str:
    """Return ``1 run``, ``2 runs``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def format_duration(seconds: float) -> str:
    """Return ``45 s``, ``12 min`` or ``3 h 05 min``; a dash if `seconds` is not finite."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60:02} min"


def flush_stdio() -> None:
    """Flush stdout and stderr, ignoring broken pipes and full disks."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
