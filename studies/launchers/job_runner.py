"""What a window of tmux runs: waits for enough free cores, runs one job's script, and tells how it ended.

    python studies/launchers/job_runner.py FOLDER JOB WORKERS [--clear]

All windows of a user on this machine queue for its cores, in the order in which they were opened. SIGTERM, SIGHUP
(the window is closed), Ctrl-C and SIGUSR1 ask the job to save and stop. A second request, or a job that has not
stopped after `SAVE_TIMEOUT_S` seconds, ends it at once. The queue is made of the
kernel's file locks, so a window that is killed leaves nothing to clean up.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO

ENDING = "over"  # state of a job whose window is about to end
REQUESTS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1)
SIGNAL_DEBOUNCE_S = 2.0  # seconds; within them, a repetition is still the same one
SAVE_TIMEOUT_S = 300.0  # seconds for an iteration to end and a checkpoint to be written
MAX_TRIES = 20  # tries to take a job
POLL_INTERVAL_S = 0.2  # seconds between looks for free cores
TERM_TIMEOUT_S = 5.0  # seconds between SIGTERM and SIGKILL
STATE_BYTES = 512  # of the state of a window; host names have at most 64
# Of Linux: a signal for the job where this program is killed; and what the job leaves behind becomes a child.
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def say(line: str) -> None:
    """Print a line, as long as there is a window."""
    with contextlib.suppress(OSError, ValueError):
        print(line, flush=True)


prctl = ctypes.CDLL(None).prctl


class StoppedError(Exception):
    """A request to stop came before the job began."""


def try_to_lock(path: Path) -> IO[str] | None:
    """Return a file that this process holds from now on until it closes it; None where another one does."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


@contextlib.contextmanager
def core_queue(locks: Path) -> Iterator[None]:
    """Wait until those who came before are gone, and hold up those who come after."""
    with (locks / "door").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)  # one at a time: a ticket is held before the next is drawn
        ticket = locks / f"ticket-{time.time_ns():020}-{os.getpid()}"
        file = try_to_lock(ticket)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            while before := [other for other in locks.glob("ticket-*") if other < ticket]:
                last = max(before)
                with contextlib.suppress(FileNotFoundError), last.open("r+") as predecessor:
                    fcntl.flock(predecessor, fcntl.LOCK_EX)  # until it has its cores, or is no more
                    last.unlink(missing_ok=True)
            yield
        finally:
            ticket.unlink(missing_ok=True)
            if file:
                file.close()


class JobRunner:
    """One job's window.

    Args:
        folder: of the study.
        job: its name.
        workers: how many cores it needs; all of them where there are fewer.
        signal_debounce: seconds within which a repeated request to stop is still the same one.
        term_timeout: seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        folder: Path,
        job: str,
        workers: int,
        *,
        signal_debounce: float = SIGNAL_DEBOUNCE_S,
        term_timeout: float = TERM_TIMEOUT_S,
    ) -> None:
        self._one_request, self._last_words = signal_debounce, term_timeout
        self._folder, self._job = folder, job
        self._cores = sorted(os.sched_getaffinity(0))
        self._need = min(workers, len(self._cores))
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_at: float | None = None
        self._at_once = False
        self._file = os.open(folder / f"{job}.turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def run(self) -> int:
        """Wait, run the job, and return its exit code."""
        if not self._alone():
            say(f"{self._job} has another window already")
            return 2
        for number in REQUESTS:
            signal.signal(number, self._receive)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            self._write("pending")
            with self._taken() as cores:
                code = self._run(cores)
                self._write_end(code)  # before the next job takes the cores
            return code
        except StoppedError:
            say("stopped before it began")
            code = 0
        except OSError as error:  # another user's folder of locks, a disk that is full, ...
            line = f"error: {error}"
            say(line)
            with contextlib.suppress(OSError), (self._folder / f"{self._job}.out").open("a") as file:
                file.write(f"{line}\n")
            code = 1
        self._write_end(code)
        return code

    def _alone(self) -> bool:
        """Take this job; another window may have it, or somebody may only be looking at it for a moment."""
        for _ in range(MAX_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            else:
                os.ftruncate(self._file, 0)  # of an earlier window
                return True
        return False

    def _write(self, state: str) -> None:
        content = json.dumps({"state": state, "pid": os.getpid(), "host": socket.gethostname()})
        # One write, as long as any other: whoever reads meanwhile must not find half of it, or nothing.
        os.pwrite(self._file, content.ljust(STATE_BYTES).encode(), 0)

    def _write_end(self, code: int) -> None:
        """Say that the job is over; this program stays for a moment, and holds the job until then."""
        with contextlib.suppress(OSError):
            (self._folder / f"{self._job}.exit").write_text(f"{code}\n")
            self._write(ENDING)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._process is None:
            if self._asked_at is None:  # once: what it interrupts next is the leaving
                self._asked_at = now
                raise StoppedError
            return
        if self._asked_at is None:
            self._asked_at = now
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGUSR1)
        elif now - self._asked_at > self._one_request:
            self._at_once = True

    @contextlib.contextmanager
    def _taken(self) -> Iterator[list[int]]:
        """Hold as many cores as the job needs, when those who came before have theirs."""
        locks = Path(tempfile.gettempdir()) / f"milozero-{os.getuid()}"
        locks.mkdir(mode=0o700, exist_ok=True)
        if locks.lstat().st_uid != os.getuid():
            raise PermissionError(f"{locks} is not this user's")
        say(f"waiting for {self._need} of {len(self._cores)} cores")
        with contextlib.ExitStack() as lock:
            mine: list[int] = []
            with core_queue(locks):
                while len(mine) < self._need:
                    for core in self._cores:
                        if len(mine) < self._need and (file := try_to_lock(locks / f"core-{core}")):
                            lock.enter_context(file)
                            mine.append(core)
                    time.sleep(POLL_INTERVAL_S if len(mine) < self._need else 0)
            yield mine

    def _run(self, cores: list[int]) -> int:
        os.sched_setaffinity(0, cores)  # the job inherits it
        script = self._folder / f"{self._job}.sh"
        began = time.monotonic()
        # In a session of its own: Ctrl-C in the window must not reach mpiexec, which kills its workers on it.
        process = subprocess.Popen(
            ["bash", script],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=functools.partial(prctl, PR_SET_PDEATHSIG, signal.SIGUSR1),
        )
        self._process = process
        self._write("running")
        pump = threading.Thread(target=self._copy, args=(process.stderr,), daemon=True)
        pump.start()
        while process.poll() is None and not self._at_once:
            self._at_once = self._asked_at is not None and time.monotonic() > self._asked_at + SAVE_TIMEOUT_S
            time.sleep(0.1)
        self._end(process)
        pump.join(self._last_words)
        code = process.returncode
        code = 128 - code if code < 0 else code
        asked = ", asked to stop" if self._asked_at is not None else ""
        say(f"\n{self._job}: exit code {code} after {time.monotonic() - began:.0f} s{asked}")
        return code

    def _copy(self, stream: IO[bytes]) -> None:
        """Put what the job says on stderr on the window and into a file: a window keeps only its last lines."""
        with stream, (self._folder / f"{self._job}.out").open("ab", buffering=0) as file:
            for line in stream:
                for out in (file, sys.stderr.buffer):
                    with contextlib.suppress(OSError, ValueError):
                        out.write(line)
                        out.flush()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the job and all that it started have ended; end what does not."""
        if process.poll() is None:
            process.terminate()  # what a container's client passes on, and SIGKILL is not
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self._last_words)
        if process.poll() is None:
            process.kill()
            process.wait()
        patience = time.monotonic() + self._last_words  # workers whose launcher is gone notice, and end
        while True:
            try:
                ended, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not ended:
                if time.monotonic() > patience:
                    for child in children():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child, signal.SIGKILL)
                time.sleep(0.05)


def children() -> list[int]:
    """Return this process's children."""
    pid = os.getpid()
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def leave_window() -> None:
    """Close the window's terminal a moment before this program ends.

    When a terminal closes, a tmux with utempter runs a helper and misses the signal of what ends meanwhile: it would
    not show the exit code.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    time.sleep(0.5)


def main(argv: list[str]) -> int:
    """Run one job's window; return the job's exit code."""
    folder, job, workers = Path(argv[0]), argv[1], int(argv[2])
    code = JobRunner(folder, job, workers).run()
    if "--clear" in argv[3:]:
        for kind in ("sh", "yaml"):
            (folder / f"{job}.{kind}").unlink(missing_ok=True)
    leave_window()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
