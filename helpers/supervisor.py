"""Run a program that saves its work when asked to, such as ``mpiexec``, and leave no process behind.

This module imports only the standard library, because each window of a study imports it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
SAVE_TIMEOUT_S = 300.0  # for an iteration to end and a checkpoint to be written
POLL_INTERVAL_S = 0.1
# From <linux/prctl.h>: send the program a signal if this one is killed, and adopt the processes it leaves behind.
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

prctl = getattr(ctypes.CDLL(None), "prctl", lambda *_: -1)  # only Linux has it


class StoppedError(Exception):
    """A stop was requested before the program began."""


class Supervisor:
    """Runs a program; the first of `STOP_SIGNALS` to arrive asks it, by SIGUSR1, to save and stop.

    The program and all processes that it started are killed on a second request, or if it has not stopped after
    `SAVE_TIMEOUT_S` seconds. Use only one in a process, which must have no other children.

    Args:
        signal_debounce: seconds within which signals count as one request.
        term_timeout: seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, signal_debounce: float = 2.0, term_timeout: float = 5.0) -> None:
        self._signal_debounce, self.term_timeout = signal_debounce, term_timeout
        self._started = False
        self._process: subprocess.Popen[bytes] | None = None
        self._stop_time: float | None = None  # of the first request
        self._kill = False

    def catch_signals(self) -> None:
        """Install the signal handlers, which raise a StoppedError in the main thread until the program starts."""
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored under nohup
                signal.signal(number, self._handle_signal)
        prctl(PR_SET_CHILD_SUBREAPER, 1)

    @property
    def stop_requested(self) -> bool:
        """Whether a signal has arrived."""
        return self._stop_time is not None

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._stop_time is None:
            self._stop_time = now
            if not self._started:  # raised only once: a second error would interrupt the cleanup
                raise StoppedError
            self._pass_on()
        elif now - self._stop_time > self._signal_debounce and number != signal.SIGXCPU:  # repeated by the system
            self._kill = True

    def _pass_on(self) -> None:
        """Ask the program to save and stop, if it runs and a stop was requested."""
        if self._process is not None and self._stop_time is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGUSR1)

    def start(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
        """Start the program; `options` are those of `subprocess.Popen`."""
        self._started = True
        # In its own session: on the terminal's Ctrl-C, mpiexec would kill its workers.
        self._process = subprocess.Popen(
            command, start_new_session=True, stdin=subprocess.DEVNULL, preexec_fn=_request_death_signal, **options
        )
        self._pass_on()  # a request that arrived meanwhile
        return self._process

    def wait(self) -> int:
        """Return the program's exit code, after it and all processes that it started have ended.

        Raises:
            StoppedError: if the request ended the program before it handled signals.
        """
        assert self._process is not None
        while self._process.poll() is None and not self._kill:
            self._kill = self._stop_time is not None and time.monotonic() > self._stop_time + SAVE_TIMEOUT_S
            time.sleep(POLL_INTERVAL_S)
        self._end_processes(self._process)
        code = self._process.returncode
        code = 128 - code if code < 0 else code
        if self.stop_requested and code == 128 + signal.SIGUSR1:
            raise StoppedError
        return code

    def _end_processes(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the program and all processes that it started; kill those that do not exit."""
        if process.poll() is None:
            process.terminate()  # docker forwards it to the container, but not SIGKILL
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.term_timeout)
        if process.poll() is None:
            process.kill()
            process.wait()
        deadline = time.monotonic() + self.term_timeout  # workers exit by themselves when their launcher is gone
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                if time.monotonic() > deadline:
                    for child in find_children():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child, signal.SIGKILL)
                time.sleep(0.05)


def _request_death_signal() -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)


def find_children() -> list[int]:
    """Return the ids of this process's children."""
    pid = os.getpid()
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                children.append(int(stat.parent.name))
    return children
