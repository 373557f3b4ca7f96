"""Try a call in a child process first: simulators and window systems may end the process that uses them."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

TIMEOUT_S = 60.0  # after which the child counts as alive
POLL_INTERVAL_S = 0.01
CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP)


def find_crash(call: Callable[[], Any]) -> str:
    """Return how a call ends a child process, e.g. ``SIGABRT``; empty if it returns or raises an exception."""
    pid = os.fork()
    if pid == 0:
        _call_and_exit(call)
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if code >= 0:
                return f"exit code {code}" if code else ""
            return signal.Signals(-code).name if -code in CRASHES else ""
        time.sleep(POLL_INTERVAL_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return ""


def _call_and_exit(call: Callable[[], Any]) -> NoReturn:
    """Call silently and exit, without a core dump and without running this process's exit handlers."""
    try:
        faulthandler.disable()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (1, 2):
            os.dup2(null, number)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        call()
    finally:
        os._exit(0)
