"""Show metrics on the terminal: a live table with a progress bar, or plain lines if stdout is not a terminal."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.measure import Measurement
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from milozero.helpers.logging import format_duration
from milozero.tracking.tracker import Tracker

LINE_INTERVAL_S = 10.0
NUM_ROWS = 4
PANEL_WIDTH = 4  # of the panel's border and padding
# metric, label, format; column by column
RUN_METRICS = (
    ("iteration", "iteration", "{:,.0f}"),
    ("timesteps", "steps", "{:,.0f}"),
    ("steps_per_second", "steps/s", "{:,.0f}"),
    ("time_left", "time left", "{}"),
    ("return_mean_100", "mean return", "{:,.1f}"),
    ("length_mean_100", "mean length", "{:,.0f}"),
    ("eval_return", "eval return", "{:,.1f}"),
    ("best_eval_return", "best eval", "{:,.1f}"),
)
UPDATE_METRICS = (  # the table shows the first `NUM_UPDATE_METRICS` that the algorithm has
    ("policy_loss", "policy loss", "{:+.4f}"),
    ("value_loss", "value loss", "{:.4f}"),
    ("validation_loss", "validation loss", "{:+.4f}"),
    ("q_loss", "Q loss", "{:,.2f}"),
    ("q_mean", "mean Q", "{:,.1f}"),
    ("td_error", "TD error", "{:,.2f}"),
    ("d_loss", "D loss", "{:.4f}"),
    ("d_prob_expert", "D(expert)", "{:.2f}"),
    ("d_prob_policy", "D(policy)", "{:.2f}"),
    ("d_reward", "D reward", "{:+.2f}"),
    ("expert_distance", "to expert", "{:.3g}"),
    ("expert_share", "expert share", "{:.2f}"),
    ("explained_variance", "expl. variance", "{:.2f}"),
    ("approx_kl", "KL", "{:.4f}"),
    ("clip_fraction", "clip fraction", "{:.3f}"),
    ("entropy", "entropy", "{:.2f}"),
    ("temperature", "temperature", "{:.4f}"),
    ("updates_per_second", "updates/s", "{:,.0f}"),
    ("buffer_size", "buffer size", "{:,.0f}"),
    ("learning_rate", "learning rate", "{:.1e}"),
    ("grad_norm", "gradient norm", "{:,.2f}"),
)
NUM_UPDATE_METRICS = 8


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
        self._printed = ""
        self._shown: list[tuple[str, str, str]] = []
        width = terminal_width()
        self._live: Live | None = None
        if width is not None:
            console = Console(force_terminal=True, width=max(min(width, 140), 60), height=NUM_ROWS + 6)
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
        if not self._shown:
            self._shown = [
                *RUN_METRICS,
                *[each for each in UPDATE_METRICS if each[0] in metrics][:NUM_UPDATE_METRICS],
            ]
        self._latest.update({k: v for k, v in metrics.items() if not math.isnan(v)})
        with contextlib.suppress(OSError, ValueError):  # the terminal was closed, or stdout goes to a full disk
            if self._live is not None:
                self._live.start()  # only now, so that earlier lines stay above the table
                self._bar.update(self._task, completed=self._latest.get("progress", 0.0))
                self._live.update(self._render_table(), refresh=True)
            elif time.monotonic() - self._last_line_time >= LINE_INTERVAL_S:
                self._last_line_time = time.monotonic()
                self._print_line()

    def close(self) -> None:
        """Leave the final values on the screen."""
        with contextlib.suppress(OSError, ValueError):
            if self._live is not None:
                self._live.stop()
            elif self._latest and self._format_line() != self._printed:
                self._print_line()

    def _print_line(self) -> None:
        self._printed = self._format_line()
        print(self._printed, flush=True)

    def _format_metric(self, name: str, template: str) -> str:
        value = self._latest.get(name)
        if value is None:
            return "–"
        return format_duration(value) if name == "time_left" else template.format(value)

    def _format_line(self) -> str:
        """Return the metrics of the run as one line."""
        return " | ".join(f"{label} {self._format_metric(name, template)}" for name, label, template in RUN_METRICS)

    def _render_table(self) -> Group:
        console = self._bar.console
        columns = [self._shown[start : start + NUM_ROWS] for start in range(0, len(self._shown), NUM_ROWS)]
        table = self._make_grid(columns)
        while Measurement.get(console, console.options, table).maximum > console.width - PANEL_WIDTH:
            columns.pop()  # numbers that are cut off would be wrong
            table = self._make_grid(columns)
        table.expand = True
        panel = Panel(table, title=self._title, title_align="left", border_style="blue")
        return Group(panel, self._bar, "")  # mpiexec forwards complete lines, so the bar must not be last

    def _make_grid(self, columns: Sequence[Sequence[tuple[str, str, str]]]) -> Table:
        grid = Table.grid(padding=(0, 1))
        for _ in columns:
            grid.add_column(style="dim", no_wrap=True)
            grid.add_column(justify="right", no_wrap=True)
        for row in itertools.zip_longest(*columns, fillvalue=("", "", "")):
            cells = ((label, self._format_metric(name, form) if name else "") for name, label, form in row)
            grid.add_row(*itertools.chain.from_iterable(cells))
        return grid
