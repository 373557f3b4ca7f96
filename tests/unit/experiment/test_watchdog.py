"""The watchdog: hanging workers, lost launchers, time limits and signals."""

import math
import os
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest

from milozero.experiment import watchdog as watchdogs
from milozero.experiment.status import Counters, Status
from milozero.experiment.watchdog import Watchdog, list_children
from milozero.helpers.comm import SIZE_VARIABLES, Comm


class Answers(Comm):
    """A worker of several, whose pings have known answers."""

    def __init__(self, rank, size, answers, can_ping=True):
        self.rank, self.size, self.answers, self.can_ping = rank, size, answers, can_ping
        self.answered = 0

    def ping_ranks(self, answer, timeout):
        return self.answers

    def answer_pings(self, answer):
        self.answered += 1


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({0: ""}, "worker 1 is not answering"),
        ({0: "", 1: "in step, env.py:3"}, "worker 1 hangs in step, env.py:3"),
        ({0: "", 1: ""}, "all workers wait for each other"),
    ],
)
def test_hanging_worker_is_named(tmp_path, monkeypatch, answers, reason):
    exits = hang(tmp_path, monkeypatch, Answers(0, 2, answers))
    assert len(exits) == 1
    assert reason in exits[0]


def test_without_mpi_threads_no_worker_is_blamed_for_not_answering(tmp_path, monkeypatch):
    (reason,) = hang(tmp_path, monkeypatch, Answers(0, 2, {0: ""}, can_ping=False))
    assert "waiting for other workers" in reason


def test_second_worker_keeps_answering_and_reports_if_the_first_does_not(tmp_path, monkeypatch):
    comm = Answers(1, 2, {0: "", 1: "in step, env.py:3"})
    started = time.monotonic()
    (reason,) = hang(tmp_path, monkeypatch, comm)
    assert 0.15 < time.monotonic() - started < 10
    assert comm.answered > 1
    assert "worker 1 hangs in step" in reason


def hang(folder, monkeypatch, comm):
    """Return the reason that a worker reports for a hanging run."""
    exits = []
    monkeypatch.setattr(Watchdog, "_exit", lambda self, state, reason, code: exits.append(reason))
    Watchdog(comm, Status(folder, Counters()), time.monotonic(), math.inf, 1.0, ping_timeout=0.1)._abort_hanging_job()
    return exits


@pytest.fixture
def watchdog_and_exits(tmp_path, monkeypatch):
    """A watchdog with an iteration timeout of 0.3 s, and the calls of its `_exit`."""
    exits = []
    monkeypatch.setattr(Watchdog, "_exit", lambda self, *arguments: exits.append((time.monotonic(), *arguments)))
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, 0.3, poll_interval=0.02)
    watchdog.start()
    yield watchdog, exits
    watchdog.close()


def test_iteration_ends_after_its_timeout_and_not_before(watchdog_and_exits):
    watchdog, exits = watchdog_and_exits
    watchdog.start_iteration(7)
    started = time.monotonic()
    deadline = started + 20
    while not exits and time.monotonic() < deadline:
        time.sleep(0.01)
    ended_at, state, reason, code = exits[0]
    assert ended_at - started >= 0.25
    assert (state, code) == ("failed", 1)
    assert "iteration 7 has not ended after 0 s: worker 0 hangs in " in reason


def test_time_of_a_suspended_job_does_not_count(tmp_path, monkeypatch):
    exits, clock_offset = [], [0.0]
    monkeypatch.setattr(Watchdog, "_exit", lambda self, *arguments: exits.append(arguments))
    monkeypatch.setattr(watchdogs, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + clock_offset[0]))
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, 1.0, poll_interval=0.01)
    watchdog.start()
    time.sleep(0.1)
    clock_offset[0] = 3600.0
    time.sleep(0.2)
    watchdog.close()
    assert exits == []


def test_run_that_makes_progress_continues(watchdog_and_exits):
    watchdog, exits = watchdog_and_exits
    for number in range(40):
        watchdog.start_iteration(number)
        time.sleep(0.02)
    assert exits == []


def test_disarmed_watchdog_has_no_timeout(watchdog_and_exits):
    watchdog, exits = watchdog_and_exits
    watchdog.disarm()
    time.sleep(0.5)
    assert exits == []


@pytest.mark.parametrize("code", [0, 1])
def test_close_that_hangs_ends_the_process(watchdog_and_exits, code):
    watchdog, exits = watchdog_and_exits
    watchdog.limit_closing(code, timeout=0.2)
    deadline = time.monotonic() + 20
    while not exits and time.monotonic() < deadline:
        time.sleep(0.01)
    _, state, reason, exit_code = exits[0]
    assert (state, exit_code) == ("", code)
    assert "close() of an environment hangs in " in reason


def test_uploads_have_no_timeout_after_environments_have_closed(watchdog_and_exits):
    watchdog, exits = watchdog_and_exits
    watchdog.limit_closing(0, timeout=0.2)
    watchdog.disarm()
    time.sleep(0.5)
    assert exits == []


@pytest.mark.parametrize("parent", [1, 2**22 + 1])  # the new parent of orphans
def test_worker_exits_if_its_launcher_is_gone(tmp_path, monkeypatch, parent):
    monkeypatch.setattr(watchdogs, "PARENT_PID", 4321)
    assert set(orphaned(tmp_path, monkeypatch, parent)) == {("stopped", "the launcher is gone", 1)}
    assert orphaned(tmp_path, monkeypatch, 4321) == []


def test_run_without_a_launcher_outlives_its_shell(tmp_path, monkeypatch):
    assert orphaned(tmp_path, monkeypatch, 1, launched=False) == []


def orphaned(folder, monkeypatch, parent, launched=True):
    """Return the calls of `_exit` of a worker whose parent process has changed."""
    exits = []
    for name in SIZE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if launched:
        monkeypatch.setenv(SIZE_VARIABLES[0], "1")
    monkeypatch.setattr(Watchdog, "_exit", lambda self, *arguments: exits.append(arguments))
    monkeypatch.setattr(os, "getppid", lambda: parent)
    watchdog = Watchdog(Comm(), Status(folder, Counters()), time.monotonic(), math.inf, math.inf, poll_interval=0.01)
    watchdog.start()
    time.sleep(0.2)
    watchdog.close()
    return exits


def test_first_workers_clock_decides_on_the_time_limit(tmp_path):
    def stop_reason(rank):
        comm = Answers(rank, 2, {})
        return Watchdog(comm, Status(tmp_path, Counters()), time.monotonic() - 10, 5.0, math.inf)._get_stop_reason()

    assert "execution_time of 5 s used up" in stop_reason(0)
    assert stop_reason(1) == ""


def test_signal_is_received_while_the_main_thread_is_busy(tmp_path):
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, math.inf)
    watchdog.start()
    try:
        assert watchdog.agree_to_stop() == ""
        signal.raise_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 5
        while not watchdog.agree_to_stop() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert watchdog.agree_to_stop() == "SIGUSR1 received by worker 0"
    finally:
        watchdog.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2, signal.SIGXCPU])
def test_other_signals_that_would_end_the_process_ask_to_stop(tmp_path, number):
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, math.inf)
    watchdog.start()
    try:
        signal.raise_signal(number)
        give_up = time.monotonic() + 5
        while not watchdog.agree_to_stop() and time.monotonic() < give_up:
            time.sleep(0.01)
        assert watchdog.agree_to_stop() == f"{number.name} received by worker 0"
    finally:
        watchdog.close()


def test_run_that_nohup_started_ignores_a_closed_terminal(tmp_path):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, math.inf)
    watchdog.start()
    try:
        signal.raise_signal(signal.SIGHUP)
        time.sleep(0.1)
        assert watchdog.agree_to_stop() == ""
    finally:
        watchdog.close()


def test_signal_that_the_system_repeats_does_not_stop_immediately(tmp_path, monkeypatch):
    ends = []
    monkeypatch.setattr(Watchdog, "_exit", lambda self, *how: ends.append(how))
    limits = (time.monotonic(), math.inf, math.inf)
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), *limits, signal_debounce=0.0)
    for _ in range(3):
        watchdog._receive(signal.SIGXCPU)
        time.sleep(0.01)
    assert ends == []


@pytest.mark.parametrize("others", [[signal.SIGINT], [signal.SIGUSR1], []])
def test_only_repeating_the_same_signal_stops_immediately(tmp_path, monkeypatch, others):
    exits = []
    monkeypatch.setattr(Watchdog, "_exit", lambda self, *arguments: exits.append(arguments))
    limits = (time.monotonic(), math.inf, math.inf)
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), *limits, signal_debounce=0.0)
    for number in [signal.SIGTERM, *others]:
        watchdog._receive(number)
        time.sleep(0.01)
    assert exits == []
    watchdog._receive(signal.SIGTERM)
    assert exits == [("stopped", "second SIGTERM received: stopped immediately", 128 + signal.SIGTERM)]


def test_processes_of_environments_end_with_the_job(tmp_path, monkeypatch):
    ends = []
    monkeypatch.setattr(os, "_exit", ends.append)
    client = shutil.copy(shutil.which("sleep"), tmp_path / "wandb-core")
    other = subprocess.Popen(["sleep", "60"])
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, math.inf)
    before = list_children()
    of_env, of_wandb = (subprocess.Popen([program, "60"]) for program in ("sleep", client))
    assert list_children() - before == {of_env.pid, of_wandb.pid}
    try:
        watchdog._exit("stopped", "immediately", 143)
        assert of_env.wait(timeout=5) == -signal.SIGTERM
        assert other.poll() is of_wandb.poll() is None
        watchdog._exit("stopped", "immediately", 143)  # the process is gone
    finally:
        for process in (other, of_wandb):
            process.kill()
            process.wait()
    assert ends == [143, 143]


def test_signal_after_the_run_only_sets_interrupted(tmp_path, monkeypatch, capsys):
    exits = []
    monkeypatch.setattr(Watchdog, "_exit", lambda *arguments: exits.append(arguments))
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, math.inf)
    watchdog.start()
    try:
        watchdog.disarm()
        signal.raise_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while not watchdog.interrupted and time.monotonic() < deadline:
            time.sleep(0.01)
        assert watchdog.interrupted
    finally:
        watchdog.close()
    watchdog._signal_time = time.monotonic() - 2 * watchdogs.SIGNAL_DEBOUNCE_S
    watchdog._receive(signal.SIGTERM)
    assert exits == []
    assert watchdog.agree_to_stop() == ""
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("limit", "asked", "soon"), [(1e6, False, False), (1e6, True, True), (60.0, False, True)])
def test_run_should_exit_soon_after_a_signal_or_near_its_time_limit(tmp_path, limit, asked, soon):
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), limit, math.inf)
    if asked:
        watchdog._receive(signal.SIGUSR1)
    assert watchdog.should_exit_soon() == soon


def test_evaluation_is_interrupted_by_a_signal_or_some_time_after_the_time_limit(tmp_path):
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic() - 10, 5.0, math.inf)
    assert watchdog.should_interrupt()
    assert not watchdog.should_interrupt(grace_s=20)
    watchdog._receive(signal.SIGTERM)
    assert watchdog.should_interrupt(grace_s=20)


def test_repetition_of_the_signal_that_stopped_a_run_does_not_interrupt(tmp_path):
    watchdog = Watchdog(Comm(), Status(tmp_path, Counters()), time.monotonic(), math.inf, math.inf)
    watchdog._receive(signal.SIGUSR1)
    watchdog.disarm()
    watchdog._receive(signal.SIGUSR1)
    assert not watchdog.interrupted
    watchdog._signal_time -= 2 * watchdogs.SIGNAL_DEBOUNCE_S
    watchdog._receive(signal.SIGUSR1)
    assert watchdog.interrupted
