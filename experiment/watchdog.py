"""Watches over a training run from a thread of its own: signals, the time limit, and workers that hang."""

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
from milozero.helpers.logging import flush_stdio, logger

if TYPE_CHECKING:
    from milozero.experiment.status import Status
    from milozero.helpers.comm import Comm

log_file = logging.getLogger(__name__)  # what is only for log.txt
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
POLL_INTERVAL_S = 1.0  # seconds between looks at the clock
SIGNAL_DEBOUNCE_S = 2.0  # seconds; launchers often pass one request on more than once
EXIT_SOON_S = 120.0  # seconds before the time limit
PING_TIMEOUT_S = 5.0  # seconds in which a worker must answer that it is there
PARENT = os.getppid()  # the launcher, where there is one


_early: list[int] = []


@contextlib.contextmanager
def restore_signals(*more: signal.Signals) -> Iterator[None]:
    """Put the handlers of the signals that a run takes, and of `more`, back to what they were (main thread)."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, *more)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not installed from Python, which cannot put it back
                signal.signal(number, handler)
        _early.clear()


def catch_early_signals() -> None:
    """Note a SIGUSR1 that comes before there is a warden to take it, instead of dying of it."""
    signal.signal(signal.SIGUSR1, lambda number, frame: _early.append(number))


class Watchdog:
    """Decides when a run is to stop, and ends a job that does not move.

    The first signal asks for a stop at the end of the iteration, the same one again stops at once. All that matters
    happens in a thread, which a main thread that waits for other workers, or for a simulator, does not hold up.

    Args:
        comm: the workers.
        status: told when the job ends here.
        launched: when this launch of the run began, of ``time.monotonic()``.
        time_limit: seconds for this launch.
        patience: seconds that an iteration may take before the job is ended; infinite for never.
        tick: seconds between looks at the clock.
        ping_timeout: seconds in which a worker must answer that it is there.
        signal_debounce: seconds within which a repeated signal is still the same request.
    """

    def __init__(
        self,
        comm: Comm,
        status: Status,
        launched: float,
        time_limit: float,
        patience: float,
        *,
        tick: float = POLL_INTERVAL_S,
        ping_timeout: float = PING_TIMEOUT_S,
        signal_debounce: float = SIGNAL_DEBOUNCE_S,
    ) -> None:
        self._tick, self._ping_timeout, self._one_request = tick, ping_timeout, signal_debounce
        self._comm = comm
        self._status = status
        self._deadline = launched + time_limit
        self._time_limit = time_limit
        self._patience = patience
        self._iteration = 0
        self._idle = 0.0  # seconds since the run last moved, while this process was awake
        self._signal = ""  # the first one
        self._signalled_at = -math.inf
        self._resting = False
        self.interrupted = False  # whether a signal came after the run was over
        self._launched = any(name in os.environ for name in comms.SIZE_VARIABLES)  # by mpiexec or srun
        self._wake, self._bell = socket.socketpair()
        self._wakeup_fd = -1  # what signals woke before
        self._thread = threading.Thread(target=self._watch, name="warden", daemon=True)

    def start(self) -> None:
        """Take over the signals, and watch (from the main thread)."""
        self._bell.setblocking(False)
        self._wakeup_fd = signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _leave_it_to_the_thread)
        while _early:
            self._bell.send(bytes([_early.pop()]))
        self._thread.start()

    def close(self) -> None:
        """End the watch. The run is over, and a launcher's repetition of its request must not spoil its end."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wakeup_fd)
        self._bell.close()  # which ends the thread
        self._thread.join()
        self._wake.close()

    def iteration(self, number: int) -> None:
        """Note that an iteration begins: the run moves."""
        self._iteration, self._idle = number, 0.0

    def disarm(self) -> None:
        """Let it take as long as it may from here on: the run is over, but for what waits for a network.

        A signal is noted as `interrupted`, and changes nothing else.
        """
        self._patience, self._resting = math.inf, True

    def seconds_left(self) -> float:
        """Return how much of the time limit is left."""
        return self._deadline - time.monotonic()

    def should_exit_soon(self) -> bool:
        """Tell whether somebody has asked for a stop, or the time limit is almost over."""
        return bool(self._signal) or self.seconds_left() < EXIT_SOON_S

    def _wants_to_stop(self) -> str:
        """Return why this worker wants the run to stop, or nothing."""
        if self._signal:
            return f"{self._signal} received by worker {self._comm.rank}"
        if self._comm.rank == 0 and self.seconds_left() <= 0:  # one clock decides for all
            return f"execution_time of {self._time_limit:.0f} s used up"
        return ""

    def agree_to_stop(self) -> str:
        """Return why the run stops, the same on all workers, or nothing (collective)."""
        return next(filter(None, self._comm.allgather(self._wants_to_stop())), "")

    def _watch(self) -> None:
        before = time.monotonic()
        while True:
            rung, _, _ = select.select([self._wake], [], [], self._tick)
            numbers = self._wake.recv(64) if rung else b""
            if rung and not numbers:
                return
            for number in numbers:
                self._receive(signal.Signals(number))
            now = time.monotonic()
            self._idle += min(now - before, 2 * self._tick)  # a job that is suspended as a whole does not hang
            before = now
            if self._launched and os.getppid() != PARENT:
                self._end("stopped", "the launcher is gone", 1)
            self._comm.answer_pings(_place_of_main_thread)
            if self._idle > self._patience:
                self._end_what_hangs()

    def _receive(self, number: signal.Signals) -> None:
        if number not in SIGNALS:
            return
        now = time.monotonic()
        if self._resting:
            self.interrupted |= now - self._signalled_at > self._one_request
            return
        if not self._signal:
            self._signal, self._signalled_at = number.name, now
            if self._comm.rank == 0:
                logger.warning(f"{number.name}: stopping at the end of this iteration; once more stops at once")
        elif number.name == self._signal and now - self._signalled_at > self._one_request:
            self._end("stopped", f"at once, by a second {number.name}", 128 + number)

    def _end_what_hangs(self) -> None:
        """Ask around who is still there, name who is not or does not move, and end the job."""
        answers = self._comm.ping_ranks(_place_of_main_thread, self._ping_timeout)
        silent = [rank for rank in range(self._comm.size) if rank not in answers]
        who = [f"worker {rank} hangs {place}" for rank, place in sorted(answers.items()) if place]
        if silent and self._comm.can_ask:
            who.insert(0, f"{_workers(silent)} not answering: stopped, stuck in C code, or gone with the machine")
        elif not who:
            who = ["all workers wait for each other" if self._comm.can_ask else "it waits for others"]
        reason = f"iteration {self._iteration} has not ended for {self._idle:.0f} s: {'; '.join(who)}"
        # One worker reports, and ends the job for all; another takes its place where it does not.
        give_up = time.monotonic() + (0.0 if self._comm.rank == min(answers) else 2 * self._ping_timeout)
        while time.monotonic() < give_up:
            self._comm.answer_pings(_place_of_main_thread)
            time.sleep(0.05)
        stack = "".join(traceback.format_stack(_main_frame()))
        log_file.error("the main thread of worker %d:\n%s", self._comm.rank, stack)
        self._end("failed", reason, 1)

    def _end(self, state: str, reason: str, code: int) -> None:
        """End the job at once, whatever the main thread does."""
        try:
            if self._comm.rank == 0 or state == "failed":
                logger.log(logging.ERROR if state == "failed" else logging.WARNING, reason)
                self._status.write(state, reason)
            flush_stdio()
            if self._comm.size > 1 and state == "failed":
                self._comm.abort(code)
        finally:
            os._exit(code)


def _leave_it_to_the_thread(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor has the signal already, and this only replaces dying of it."""


def _main_frame() -> FrameType:
    return sys._current_frames()[threading.main_thread().ident or 0]


def _place_of_main_thread() -> str:
    """Return where the main thread is; nothing where it waits for other workers."""
    frames = [frame.f_code for frame, _ in traceback.walk_stack(_main_frame())]
    if any(code.co_filename == comms.__file__ for code in frames):
        return ""
    line = next(traceback.walk_stack(_main_frame()))[1]
    return f"in {frames[0].co_name}, {Path(frames[0].co_filename).name}:{line}"


def _workers(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"worker {ranks[0]} is"
    return f"workers {', '.join(map(str, ranks))} are"
