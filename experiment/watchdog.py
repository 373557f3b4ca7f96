"""Watches a training run from a background thread: signals, the time limit, and workers that hang."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from milozero.helpers import comm as comms
from milozero.helpers.config.values import to_seconds
from milozero.helpers.logging import flush_stdio, logger

if TYPE_CHECKING:
    from milozero.experiment.launch import Launch
    from milozero.experiment.settings import CommonConfig
    from milozero.experiment.status import NoStatus, Status
    from milozero.helpers.comm import Comm

log_file = logging.getLogger(__name__)  # for log.txt only
# Requests to stop: SIGHUP if the terminal is closed or the connection drops, SIGUSR2 and SIGXCPU from batch systems.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
POLL_INTERVAL_S = 1.0
SIGNAL_DEBOUNCE_S = 2.0  # launchers often forward the same request repeatedly
EXIT_SOON_S = 120.0  # before the time limit
CLOSE_TIMEOUT_S = 30.0  # for the environments to close
PING_TIMEOUT_S = 5.0
ANSWER_INTERVAL_S = 0.05
PARENT_PID = os.getppid()  # the launcher's, if there is one

_early_signals: list[int] = []  # received before a watchdog was started


@contextlib.contextmanager
def restore_signals(*more: signal.Signals) -> Iterator[None]:
    """On exit, restore the handlers of `SIGNALS` and of `more`. Call this from the main thread."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, *more)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not installed from Python, so Python cannot restore it
                signal.signal(number, handler)
        _early_signals.clear()


def catch_early_signals() -> None:
    """Keep signals of batch systems, which would end the process, for the watchdog that starts later."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: _early_signals.append(number))


class Watchdog:
    """Decides when a run should stop, and aborts a job that hangs.

    The first signal requests a stop at the end of the iteration; repeating it stops immediately. All of this happens
    in a background thread, because the main thread may be blocked by other workers or by a simulator.

    Args:
        comm: the workers.
        status: records that the job was ended.
        start_time: ``time.monotonic()`` when this launch of the run started.
        time_limit: seconds for this launch.
        iteration_timeout: seconds after which an iteration counts as hanging; infinity disables the check.
        unit: what an iteration is called in messages.
        poll_interval: seconds between checks.
        ping_timeout: seconds in which a worker must answer a ping.
        signal_debounce: seconds in which a repeated signal counts as the same request.
    """

    def __init__(
        self,
        comm: Comm,
        status: Status | NoStatus,
        start_time: float,
        time_limit: float,
        iteration_timeout: float,
        *,
        unit: str = "iteration",
        poll_interval: float = POLL_INTERVAL_S,
        ping_timeout: float = PING_TIMEOUT_S,
        signal_debounce: float = SIGNAL_DEBOUNCE_S,
    ) -> None:
        self._poll_interval, self._ping_timeout, self._signal_debounce = poll_interval, ping_timeout, signal_debounce
        self._comm = comm
        self._status = status
        self._deadline = start_time + time_limit
        self._time_limit = time_limit
        self._iteration_timeout = iteration_timeout
        self._unit = unit
        self._iteration = 0
        self._idle_seconds = 0.0  # since the iteration began, without the time in which this process was suspended
        self._signal = ""  # name of the first signal
        self._signal_time = -math.inf
        self._disarmed = False
        self._closing_exit_code: int | None = None  # None unless the environments are closing
        # Child processes that are not of environments. All others are terminated if the job ends immediately.
        self.other_processes = list_children()
        self.interrupted = False  # whether a signal arrived after `disarm`
        self._has_launcher = comms.has_launcher()
        self._receiver, self._sender = socket.socketpair()  # signals write their number to the sender
        self._previous_wakeup_fd = -1
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Install the signal handlers and start the thread. Call this from the main thread."""
        self._sender.setblocking(False)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
                signal.signal(number, _ignore_signal)
        while _early_signals:
            self._sender.send(bytes([_early_signals.pop()]))
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and ignore further signals, which a launcher may send until the process is gone."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        self._sender.close()  # ends the thread
        self._thread.join()
        self._receiver.close()

    def start_iteration(self, number: int) -> None:
        """Restart the iteration timeout."""
        self._iteration, self._idle_seconds = number, 0.0

    def disarm(self) -> None:
        """Disable the iteration timeout after training, e.g. for uploads. Further signals only set `interrupted`."""
        self._iteration_timeout, self._disarmed, self._closing_exit_code = math.inf, True, None

    def limit_closing(self, exit_code: int, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """End the process with `exit_code` if the environments do not close within `timeout` seconds from now."""
        self.disarm()
        self._idle_seconds = 0.0
        self._iteration_timeout, self._closing_exit_code = timeout, exit_code

    def remaining_seconds(self) -> float:
        """Return the seconds left until the time limit."""
        return self._deadline - time.monotonic()

    def should_exit_soon(self) -> bool:
        """Return whether a stop was requested, or the time limit is close."""
        return bool(self._signal) or self.remaining_seconds() < EXIT_SOON_S

    def should_interrupt(self, grace_s: float = 0.0) -> bool:
        """Return whether this worker must stop now: after a signal, or `grace_s` seconds after the time limit."""
        return bool(self._signal) or self.remaining_seconds() < -grace_s

    def _get_stop_reason(self) -> str:
        """Return why this worker wants to stop; empty if it does not."""
        if self._signal:
            return f"{self._signal} received by worker {self._comm.rank}"
        if self._comm.rank == 0 and self.remaining_seconds() <= 0:  # a single clock decides
            return f"execution_time of {self._time_limit:.0f} s used up"
        return ""

    def agree_to_stop(self) -> str:
        """Return why the run stops, equal on all workers; empty if it continues (collective)."""
        return next(filter(None, self._comm.allgather(self._get_stop_reason())), "")

    def _watch(self) -> None:
        before = time.monotonic()
        while True:
            ready, _, _ = select.select([self._receiver], [], [], self._poll_interval)
            numbers = self._receiver.recv(64) if ready else b""
            if ready and not numbers:
                return
            for number in numbers:
                self._receive(signal.Signals(number))
            now = time.monotonic()
            self._idle_seconds += min(now - before, 2 * self._poll_interval)  # time of a suspended job does not count
            before = now
            if self._has_launcher and os.getppid() != PARENT_PID:
                self._exit("stopped", "the launcher is gone", 1)
            self._comm.answer_pings(_locate_main_thread)
            if self._idle_seconds > self._iteration_timeout:
                if self._closing_exit_code is None:
                    self._abort_hanging_job()
                else:
                    reason = f"close() of an environment hangs {_locate_main_thread()}; exiting without it"
                    self._exit("", reason, self._closing_exit_code)

    def _receive(self, number: signal.Signals) -> None:
        if number not in SIGNALS:
            return
        now = time.monotonic()
        repeated = now - self._signal_time > self._signal_debounce
        if self._disarmed:
            self.interrupted |= repeated
        elif not self._signal:
            self._signal, self._signal_time = number.name, now
            if self._comm.rank == 0:
                when = "after this iteration" if self._unit == "iteration" else f"without finishing this {self._unit}"
                logger.warning(f"{number.name}: stopping {when}; repeat it to stop immediately")
        elif number.name == self._signal and repeated and number != signal.SIGXCPU:  # the system repeats it
            self._exit("stopped", f"second {number.name} received: stopped immediately", 128 + number)

    def _abort_hanging_job(self) -> None:
        """Ping all workers, report which ones are missing or stuck, and end the job."""
        answers = self._comm.ping_ranks(_locate_main_thread, self._ping_timeout)
        silent = [rank for rank in range(self._comm.size) if rank not in answers]
        problems = [f"worker {rank} hangs {place}" for rank, place in sorted(answers.items()) if place]
        if silent and self._comm.can_ping:
            problems.insert(
                0, f"{_name_workers(silent)} not answering: stopped, stuck in C code, or its machine is down"
            )
        elif not problems:
            problems = ["all workers wait for each other" if self._comm.can_ping else "waiting for other workers"]
        seconds = self._idle_seconds
        reason = f"{self._unit} {self._iteration} has not ended after {seconds:.0f} s: {'; '.join(problems)}"
        # The first worker that answers reports this and ends the job; if it does not, the others do so a bit later.
        deadline = time.monotonic() + (0.0 if self._comm.rank == min(answers) else 2 * self._ping_timeout)
        while time.monotonic() < deadline:
            self._comm.answer_pings(_locate_main_thread)
            time.sleep(ANSWER_INTERVAL_S)
        stack = "".join(traceback.format_stack(_get_main_frame()))
        log_file.error("main thread of worker %d:\n%s", self._comm.rank, stack)
        self._exit("failed", reason, 1)

    def _exit(self, state: str, reason: str, code: int) -> None:
        """End the job immediately, even if the main thread is blocked; an empty `state` keeps the run's final one."""
        try:
            if self._comm.rank == 0 or state != "stopped":
                logger.log(logging.ERROR if state == "failed" else logging.WARNING, reason)
                if state:
                    self._status.write(state, reason)
            _end_processes(list_children() - self.other_processes)
            flush_stdio()
            if self._comm.size > 1 and state == "failed":
                self._comm.abort(code)
        finally:
            os._exit(code)


def list_children() -> set[int]:
    """Return the ids of this process's children that are still running."""
    children: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            children.update(map(int, task.read_text().split()))
    return children


def _end_processes(pids: set[int]) -> None:
    """Terminate processes, except the Weights & Biases client, which saves its data and then exits by itself."""
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            if not Path(f"/proc/{pid}/comm").read_text().startswith("wandb"):
                os.kill(pid, signal.SIGTERM)


def start_watchdog(
    config: CommonConfig, launch: Launch, status: Status | NoStatus, unit: str = "iteration"
) -> Watchdog:
    """Start a watchdog with the limits in `config`; the cleanup of `launch` closes it."""
    time_limit, timeout = to_seconds(config.execution_time), to_seconds(config.watchdog) or math.inf
    watchdog = Watchdog(launch.comm, status, launch.start_time, time_limit, timeout, unit=unit)
    watchdog.start()
    launch.cleanup.callback(watchdog.close)
    return watchdog


def _ignore_signal(number: int, frame: FrameType | None) -> None:
    """Keep the signal from ending the process; the thread receives it through the wakeup descriptor."""


def _get_main_frame() -> FrameType:
    return sys._current_frames()[threading.main_thread().ident or 0]


def _locate_main_thread() -> str:
    """Return where the main thread is; empty if it waits for other workers."""
    frames = [frame.f_code for frame, _ in traceback.walk_stack(_get_main_frame())]
    if any(code.co_filename == comms.__file__ for code in frames):
        return ""
    line = next(traceback.walk_stack(_get_main_frame()))[1]
    return f"in {frames[0].co_name}, {Path(frames[0].co_filename).name}:{line}"


def _name_workers(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"worker {ranks[0]} is"
    return f"workers {', '.join(map(str, ranks))} are"
