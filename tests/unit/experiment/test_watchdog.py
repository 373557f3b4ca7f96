import math
import os
import signal
import time
from types import SimpleNamespace

import pytest

from milozero.experiment import watchdog as watchdogs
from milozero.experiment.status import Counters, Status
from milozero.experiment.watchdog import Watchdog
from milozero.helpers.comm import SIZE_VARIABLES, Comm


class Answers(Comm):
    """A worker of several, whose roll calls have a known outcome."""

    def __init__(self, rank, size, answers, can_ask=True):
        self.rank, self.size, self.answers, self.can_ask = rank, size, answers, can_ask
        self.answered = 0

    def ping_ranks(self, answer, seconds):
        return self.answers

    def answer_pings(self, answer):
        self.answered += 1


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({0: ""}, "worker 1 is not answering"),
        ({0: "", 1: "in step, env.py:3"}, "worker 1 hangs in step, env.py:3"),
        ({0: "", 1: ""}, "all workers wait for each other"),
    ],
)
def test_who_hangs_is_named(tmp_path, monkeypatch, answers, said):
    ends = hang(tmp_path, monkeypatch, Answers(0, 2, answers))
    assert len(ends) == 1
    assert said in ends[0]


def test_without_threads_nobody_is_accused_of_not_answering(tmp_path, monkeypatch):
    (said,) = hang(tmp_path, monkeypatch, Answers(0, 2, {0: ""}, can_ask=False))
    assert "it waits for others" in said


def test_worker_that_another_one_precedes_goes_on_answering_and_reports_in_the_end(tmp_path, monkeypatch):
    comm = Answers(1, 2, {0: "", 1: "in step, env.py:3"})
    began = time.monotonic()
    (said,) = hang(tmp_path, monkeypatch, comm)
    assert 0.15 < time.monotonic() - began < 10
    assert comm.answered > 1
    assert "worker 1 hangs in step" in said


def hang(folder, monkeypatch, comm):
    """Return what a worker says that finds the run hanging."""
    ends = []
    monkeypatch.setattr(Watchdog, "_end", lambda self, state, reason, code: ends.append(reason))
    Watchdog(comm, Status(folder, Counters()), time.monotonic(), math.inf, 1.0, ping_timeout=0.1)._end_what_hangs()
    return ends


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Let a watchdog watch an iteration that may take 0.3 s; returns it and the ends that it came to."""
    ends = []
    monkeypatch.setattr(Watchdog, "_end", lambda self, *how: ends.append((time.monotonic(), *how)))
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, 0.3, tick=0.02)
    watchdog.start()
    yield watchdog, ends
    watchdog.close()


def test_iteration_that_takes_too_long_is_ended_and_not_before(watched):
    watchdog, ends = watched
    watchdog.iteration(7)
    began = time.monotonic()
    give_up = began + 20
    while not ends and time.monotonic() < give_up:
        time.sleep(0.01)
    ended_at, state, reason, code = ends[0]
    assert ended_at - began >= 0.25
    assert (state, code) == ("failed", 1)
    assert "iteration 7 has not ended for 0 s: worker 0 hangs in " in reason


def test_time_in_which_the_whole_job_was_suspended_does_not_count(tmp_path, monkeypatch):
    ends, ahead = [], [0.0]
    monkeypatch.setattr(Watchdog, "_end", lambda self, *how: ends.append(how))
    monkeypatch.setattr(watchdogs, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0]))
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, 1.0, tick=0.01)
    watchdog.start()
    time.sleep(0.1)
    ahead[0] = 3600.0
    time.sleep(0.2)
    watchdog.close()
    assert ends == []


def test_run_that_moves_is_left_alone(watched):
    watchdog, ends = watched
    for number in range(40):
        watchdog.iteration(number)
        time.sleep(0.02)
    assert ends == []


def test_run_that_is_over_may_take_its_time(watched):
    watchdog, ends = watched
    watchdog.disarm()
    time.sleep(0.5)
    assert ends == []


@pytest.mark.parametrize("parent", [1, 2**22 + 1])  # whoever takes orphans in
def test_worker_whose_launcher_is_gone_ends(tmp_path, monkeypatch, parent):
    monkeypatch.setattr(watchdogs, "PARENT", 4321)
    assert set(orphaned(tmp_path, monkeypatch, parent)) == {("stopped", "the launcher is gone", 1)}
    assert orphaned(tmp_path, monkeypatch, 4321) == []


def test_run_that_no_launcher_started_outlives_its_shell(tmp_path, monkeypatch):
    assert orphaned(tmp_path, monkeypatch, 1, launched=False) == []


def orphaned(folder, monkeypatch, parent, launched=True):
    """Return the ends that a worker comes to whose parent is another process now."""
    ends = []
    for name in SIZE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if launched:
        monkeypatch.setenv(SIZE_VARIABLES[0], "1")
    monkeypatch.setattr(Watchdog, "_end", lambda self, *how: ends.append(how))
    monkeypatch.setattr(os, "getppid", lambda: parent)
    watchdog = Watchdog(Comm(), Status(folder, Counters()), time.monotonic(), math.inf, math.inf, tick=0.01)
    watchdog.start()
    time.sleep(0.2)
    watchdog.close()
    return ends


def test_time_limit_is_that_of_the_first_workers_clock(tmp_path):
    def wants(rank):
        comm = Answers(rank, 2, {})
        return Watchdog(comm, Status(tmp_path, Counters()), time.monotonic() - 10, 5.0, math.inf)._wants_to_stop()

    assert "execution_time of 5 s used up" in wants(0)
    assert wants(1) == ""


def test_signal_is_noted_at_once_though_the_main_thread_is_busy(tmp_path):
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, math.inf)
    watchdog.start()
    try:
        assert watchdog.agree_to_stop() == ""
        signal.raise_signal(signal.SIGUSR1)
        give_up = time.monotonic() + 5
        while not watchdog.agree_to_stop() and time.monotonic() < give_up:
            time.sleep(0.01)
        assert watchdog.agree_to_stop() == "SIGUSR1 received by worker 0"
    finally:
        watchdog.close()


@pytest.mark.parametrize("others", [[signal.SIGINT], [signal.SIGUSR1], []])
def test_only_the_same_signal_once_more_stops_at_once(tmp_path, monkeypatch, others):
    ends = []
    monkeypatch.setattr(Watchdog, "_end", lambda self, *how: ends.append(how))
    limits = (time.monotonic(), math.inf, math.inf)
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), *limits, signal_debounce=0.0)
    for number in [signal.SIGTERM, *others]:
        watchdog._receive(number)
        time.sleep(0.01)
    assert ends == []
    watchdog._receive(signal.SIGTERM)
    assert ends == [("stopped", "at once, by a second SIGTERM", 128 + signal.SIGTERM)]


def test_signal_after_the_run_is_noted_and_changes_nothing(tmp_path, monkeypatch, capsys):
    ends = []
    monkeypatch.setattr(Watchdog, "_end", lambda *arguments: ends.append(arguments))
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, math.inf)
    watchdog.start()
    try:
        watchdog.disarm()
        signal.raise_signal(signal.SIGTERM)
        give_up = time.monotonic() + 5
        while not watchdog.interrupted and time.monotonic() < give_up:
            time.sleep(0.01)
        assert watchdog.interrupted
    finally:
        watchdog.close()
    watchdog._signalled_at = time.monotonic() - 2 * watchdogs.SIGNAL_DEBOUNCE_S
    watchdog._receive(signal.SIGTERM)
    assert ends == []
    assert watchdog.agree_to_stop() == ""
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("limit", "asked", "soon"), [(1e6, False, False), (1e6, True, True), (60.0, False, True)])
def test_who_is_asked_to_stop_or_has_little_time_hurries(tmp_path, limit, asked, soon):
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), limit, math.inf)
    if asked:
        watchdog._receive(signal.SIGUSR1)
    assert watchdog.should_exit_soon() == soon


def test_repetition_of_the_request_that_stopped_a_run_is_no_second_one(tmp_path):
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, math.inf)
    watchdog._receive(signal.SIGUSR1)
    watchdog.disarm()
    watchdog._receive(signal.SIGUSR1)
    assert not watchdog.interrupted
    watchdog._signalled_at -= 2 * watchdogs.SIGNAL_DEBOUNCE_S
    watchdog._receive(signal.SIGUSR1)
    assert watchdog.interrupted
