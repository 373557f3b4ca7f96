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


PPO = {
    "policy_loss": -0.01234,
    "value_loss": 1234.5678,
    "explained_variance": -0.25,
    "approx_kl": 0.0123,
    "clip_fraction": 0.123,
    "entropy": 12.34,
    "learning_rate": 2.5e-4,
    "grad_norm": 123.4,
}


@pytest.mark.parametrize(("width", "num_updates"), [(80, 4), (118, 8), (200, 8)])
def test_numbers_are_never_cut_off(monkeypatch, capsys, width, num_updates):
    monkeypatch.setattr(console, "terminal_width", lambda: width)
    tracker = ConsoleTracker("Hopper_42")
    large = METRICS | {
        "timesteps": 1e9,
        "steps_per_second": 1e5,
        "eval_return": -123456.7,
        "best_eval_return": 98765.4,
    }
    tracker.log(large | PPO, 0)
    tracker.close()
    shown = Text.from_ansi(capsys.readouterr().out).plain
    assert "…" not in shown
    assert all(text in shown for text in ("1,000,000,000", "-123,456.7", "98,765.4"))
    updates = ("-0.0123", "1234.5678", "-0.25", "0.0123 ", "0.123 ", "12.34", "2.5e-04", "123.40 ")
    assert [text for text in updates if text in shown] == list(updates[:num_updates])


def test_terminal_shows_the_metrics_of_the_algorithm(monkeypatch, capsys):
    monkeypatch.setattr(console, "terminal_width", lambda: 118)
    tracker = ConsoleTracker("Hopper_42")
    tracker.log(METRICS | {"q_loss": math.nan, "temperature": math.nan}, 0)
    tracker.log({"q_loss": 1234.5, "temperature": 0.25}, 0)
    tracker.close()
    shown = Text.from_ansi(capsys.readouterr().out).plain
    last = shown[shown.rindex("Hopper_42") :]
    assert "Q loss 1,234.50" in " ".join(last.split())
    assert "temperature 0.2500" in " ".join(last.split())
    assert "value loss" not in last


@pytest.mark.parametrize("ends_with", ["iteration 3", "iteration 4"])
def test_pipe_gets_a_line_at_intervals_and_the_last_one_once(monkeypatch, capsys, ends_with):
    monkeypatch.setattr(console, "terminal_width", lambda: None)
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    tracker = ConsoleTracker("Hopper_42")
    for iteration in (1.0, 2.0):
        tracker.log(METRICS | {"iteration": iteration}, 0)
    clock[0] += console.LINE_INTERVAL_S
    tracker.log(METRICS | {"iteration": 3.0}, 0)
    if ends_with == "iteration 4":
        tracker.log(METRICS | {"iteration": 4.0}, 0)
    tracker.close()
    lines = capsys.readouterr().out.splitlines()
    expected = ["iteration 1", "iteration 3", "iteration 4"]
    assert [line.partition(" | ")[0] for line in lines] == expected[: expected.index(ends_with) + 1]
