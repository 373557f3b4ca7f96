"""Metrics on the terminal: a live table with a progress bar, or plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import sys
import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from milozero.tracking.tracker import Tracker

logger = logging.getLogger(__name__)
LINE_INTERVAL_S = 10.0

# metric → label, format; three columns, top to bottom
SHOWN = (
    ("iteration", "iteration", "{:,.0f}"),
    ("timesteps", "steps", "{:,.0f}"),
    ("steps_per_second", "steps/s", "{:,.0f}"),
    ("time_left", "time left", "{}"),
    ("return_mean", "return", "{:,.1f}"),
    ("length_mean", "length", "{:,.0f}"),
    ("eval_return", "eval return", "{:,.1f}"),
    ("best_eval_return", "best eval", "{:,.1f}"),
    ("policy_loss", "policy loss", "{:+.4f}"),
    ("value_loss", "value loss", "{:.4f}"),
    ("explained_variance", "expl. variance", "{:.2f}"),
    ("learning_rate", "learning rate", "{:.1e}"),
    ("approx_kl", "KL", "{:.4f}"),
    ("clip_fraction", "clip fraction", "{:.3f}"),
    ("entropy", "entropy", "{:.2f}"),
    ("grad_norm", "gradient norm", "{:.2f}"),
)
ROWS = 4


def terminal_width() -> int | None:
    """Return the width of the terminal the user looks at, or None where there is none.

    Under mpiexec a worker's own output is a pseudo-terminal whatever the user did with mpiexec's, so the
    launcher's output is the one to ask (on Linux).
    """
    try:
        if "OMPI_COMM_WORLD_SIZE" not in os.environ:
            return os.get_terminal_size(sys.stdout.fileno()).columns
        terminal = os.open(f"/proc/{os.getppid()}/fd/1", os.O_WRONLY | os.O_NOCTTY)
        try:
            return os.get_terminal_size(terminal).columns
        finally:
            os.close(terminal)
    except (OSError, ValueError, io.UnsupportedOperation):
        return None


def duration(seconds: float) -> str:
    """Return seconds as ``D-HH:MM:SS`` or ``MM:SS``."""
    if not math.isfinite(seconds):
        return "–"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour:02}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"
    return f"{days}-{clock}" if days else clock


class ConsoleTracker(Tracker):
    """Shows the newest value of each metric, and how far the run is."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._seen: dict[str, float] = {}
        self._last_line = -math.inf
        width = terminal_width()
        self._live: Live | None = None
        if width is not None:
            console = Console(force_terminal=True, width=max(min(width, 118), 60), height=ROWS + 6)
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                console=console,
                expand=True,
            )
            self._task = self._bar.add_task("training", total=1.0)
            self._live = Live(console=console, auto_refresh=False, transient=False)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Redraw the table, or print a line every few seconds."""
        with contextlib.suppress(OSError, ValueError):  # nobody looks any more, or the disk behind stdout is full
            self._show(metrics)

    def _show(self, metrics: Mapping[str, float]) -> None:
        self._seen.update({k: v for k, v in metrics.items() if not math.isnan(v)})
        if self._live is not None:
            self._live.start()  # only now: what is printed before stays above
            self._bar.update(self._task, completed=self._seen.get("progress", 0.0))
            self._live.update(self._table(), refresh=True)
        elif time.monotonic() - self._last_line >= LINE_INTERVAL_S:
            self._last_line = time.monotonic()
            print(self.line(), flush=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        with contextlib.suppress(OSError, ValueError):
            if self._live is not None:
                self._live.stop()
            elif self._seen:
                print(self.line(), flush=True)

    def text(self, name: str, form: str) -> str:
        """Return a metric's newest value as shown."""
        value = self._seen.get(name)
        if value is None:
            return "–"
        return duration(value) if name == "time_left" else form.format(value)

    def line(self) -> str:
        """Return the first two columns as one plain line."""
        return " | ".join(f"{label} {self.text(name, form)}" for name, label, form in SHOWN[: 2 * ROWS])

    def _table(self) -> Group:
        table = Table.grid(padding=(0, 1), expand=True)
        columns = len(SHOWN) // ROWS
        for _ in range(columns):
            table.add_column(style="dim", no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
        for row in range(ROWS):
            cells = [SHOWN[column * ROWS + row] for column in range(columns)]
            table.add_row(*(text for name, label, form in cells for text in (label, self.text(name, form))))
        panel = Panel(table, title=self._title, title_align="left", border_style="blue")
        return Group(panel, self._bar, "")  # mpiexec passes a line on when it ends: the bar must not be the last
