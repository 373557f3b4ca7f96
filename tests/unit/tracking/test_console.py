"""The console: a table with a progress bar in a terminal, lines elsewhere."""

import math

import pytest
from rich.text import Text

from milozero.tracking import console
from milozero.tracking.console import ConsoleTracker

METRICS = {"progress": 0.25, "iteration": 7.0, "timesteps": 1e6, "return_mean_100": 12.5, "time_left": 90.0}


@pytest.mark.parametrize("width", [80, 200])
def test_terminal_shows_metrics_and_progress(monkeypatch, capsys, width):
    monkeypatch.setattr(console, "terminal_width", lambda: width)
    tracker = ConsoleTracker("Hopper_42")
    tracker.log(METRICS, 0)
    tracker.log({"progress": 0.5, "return_mean_100": math.nan}, 0)
    tracker.close()
    shown = Text.from_ansi(capsys.readouterr().out).plain
    assert all(text in shown for text in ("Hopper_42", "25%", "50%"))
    last = shown[shown.rindex("Hopper_42") :]
    assert "12.5" in last  # a NaN does not replace the latest value
    assert "50%" in last
    assert max(map(len, shown.splitlines())) <= width


def test_pipe_gets_a_line_at_intervals_and_a_last_one(monkeypatch, capsys):
    monkeypatch.setattr(console, "terminal_width", lambda: None)
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    tracker = ConsoleTracker("Hopper_42")
    for iteration in (1.0, 2.0):
        tracker.log(METRICS | {"iteration": iteration}, 0)
    clock[0] += console.LINE_INTERVAL_S
    tracker.log(METRICS | {"iteration": 3.0}, 0)
    tracker.log(METRICS | {"iteration": 4.0}, 0)
    tracker.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" | ")[0] for line in lines] == ["iteration 1", "iteration 3", "iteration 4"]
