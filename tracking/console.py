"""Show metrics on the terminal: a live table with a progress bar, or plain lines if stdout is not a terminal."""

from __future__ import annotations

import contextlib
import io
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

from milozero.helpers.logging import format_duration
from milozero.tracking.tracker import Tracker

LINE_INTERVAL_S = 10.0
NUM_ROWS = 4
# metric, label, format; column by column
CONSOLE_METRICS = (
    ("iteration", "iteration", "{:,.0f}"),
    ("timesteps", "steps", "{:,.0f}"),
    ("steps_per_second", "steps/s", "{:,.0f}"),
    ("time_left", "time left", "{}"),
    ("return_mean_100", "mean return", "{:,.1f}"),
    ("length_mean_100", "mean length", "{:,.0f}"),
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


def terminal_width() -> int | None:
    """Return the width of the user's terminal, or None if there is none.

    mpiexec connects each worker to a pseudo-terminal even if its own output is redirected. Under mpiexec, check the
    output of mpiexec instead (on Linux).
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


class ConsoleTracker(Tracker):
    """Shows the latest value of each metric and the run's progress."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._latest: dict[str, float] = {}
        self._last_line_time = -math.inf
        width = terminal_width()
        self._live: Live | None = None
        if width is not None:
            console = Console(force_terminal=True, width=max(min(width, 118), 60), height=NUM_ROWS + 6)
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
        """Redraw the table, or print a line every `LINE_INTERVAL_S`."""
        self._latest.update({k: v for k, v in metrics.items() if not math.isnan(v)})
        with contextlib.suppress(OSError, ValueError):  # the terminal was closed, or stdout goes to a full disk
            if self._live is not None:
                self._live.start()  # only now, so that earlier lines stay above the table
                self._bar.update(self._task, completed=self._latest.get("progress", 0.0))
                self._live.update(self._render_table(), refresh=True)
            elif time.monotonic() - self._last_line_time >= LINE_INTERVAL_S:
                self._last_line_time = time.monotonic()
                print(self._format_line(), flush=True)

    def close(self) -> None:
        """Leave the final values on the screen."""
        with contextlib.suppress(OSError, ValueError):
            if self._live is not None:
                self._live.stop()
            elif self._latest:
                print(self._format_line(), flush=True)

    def _format_metric(self, name: str, template: str) -> str:
        value = self._latest.get(name)
        if value is None:
            return "–"
        return format_duration(value) if name == "time_left" else template.format(value)

    def _format_line(self) -> str:
        """Return the first two columns of the table as one line."""
        columns = CONSOLE_METRICS[: 2 * NUM_ROWS]
        return " | ".join(f"{label} {self._format_metric(name, template)}" for name, label, template in columns)

    def _render_table(self) -> Group:
        table = Table.grid(padding=(0, 1), expand=True)
        num_columns = len(CONSOLE_METRICS) // NUM_ROWS
        for _ in range(num_columns):
            table.add_column(style="dim", no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
        for row in range(NUM_ROWS):
            cells = [CONSOLE_METRICS[column * NUM_ROWS + row] for column in range(num_columns)]
            table.add_row(*(text for name, label, form in cells for text in (label, self._format_metric(name, form))))
        panel = Panel(table, title=self._title, title_align="left", border_style="blue")
        return Group(panel, self._bar, "")  # mpiexec forwards complete lines, so the bar must not be last
