"""The program in a job's tmux window: waits for free cores, runs the job's script, and writes its exit code.

    python -m milozero.studies.launchers.job_runner FOLDER JOB NUM_WORKERS [--clear]

All windows of a user on this machine queue for its cores in the order in which they were opened. SIGTERM, SIGHUP
(the window was closed), Ctrl-C and SIGUSR1 ask the job to save and stop, and a second request kills it. The
queue consists of file locks, which the kernel releases if a window is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from milozero.helpers.supervisor import StoppedError, Supervisor

STATE_DONE = "done"  # of a job that has ended, until this program exits
MAX_LOCK_ATTEMPTS = 20
POLL_INTERVAL_S = 0.2  # between checks for free cores
STATE_BYTES = 512  # of a state file; host names have at most 64
CLOSE_DELAY_S = 0.5


def print_line(line: str) -> None:
    """Print a line, ignoring that the window may be closed."""
    with contextlib.suppress(OSError, ValueError):
        print(line, flush=True)


def is_private(folder: Path) -> bool:
    """Return whether a path is a folder that belongs to this user and that no other user can write to."""
    try:
        status = folder.lstat()
    except FileNotFoundError:  # removed meanwhile
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def find_lock_folder(parent: Path) -> Path:
    """Return the folder of this user's locks in a folder that all users share; create it if necessary.

    If another user has created a folder of that name, a number is added to it.

    Raises:
        OSError: if the folder cannot be created.
    """
    folder = parent / f"milozero-{os.getuid()}"
    for new in (folder, folder.with_name(f"{folder.name}-{time.time_ns()}")):
        with contextlib.suppress(FileExistsError):
            new.mkdir(mode=0o700)
        if private := [path for path in sorted(parent.glob(f"{folder.name}*")) if is_private(path)]:
            return private[0]  # the first, so that windows that start at the same time agree
    raise PermissionError(f"{new} is not private")


def open_lock(path: Path) -> IO[str]:
    """Open a file to lock it; create it if necessary, but do not follow a link or truncate the file."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+")


def try_to_lock(path: Path) -> IO[str] | None:
    """Lock a file; return it open, which holds the lock, or None if another process holds it."""
    file = open_lock(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


@contextlib.contextmanager
def core_queue(locks: Path) -> Iterator[None]:
    """Wait for the processes that queued earlier, and make those that queue later wait until the block ends."""
    with open_lock(locks / "queue") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)  # so that each entry is locked before the next is created
        entry = locks / f"entry-{time.time_ns():020}-{os.getpid()}"
        file = try_to_lock(entry)
        fcntl.flock(queue, fcntl.LOCK_UN)
        try:
            while earlier := [other for other in locks.glob("entry-*") if other < entry]:
                last = max(earlier)
                with contextlib.suppress(FileNotFoundError), last.open("r+") as predecessor:
                    fcntl.flock(predecessor, fcntl.LOCK_EX)  # until it has its cores or has exited
                    last.unlink(missing_ok=True)
            yield
        finally:
            entry.unlink(missing_ok=True)
            if file:
                file.close()


@dataclass
class JobRunner:
    """Runs one job."""

    folder: Path  # of the study
    job: str
    num_workers: int  # the cores that the job needs; it gets at most those of this machine
    supervisor: Supervisor = field(default_factory=Supervisor)
    is_first: bool = True  # whether no other window runs the job

    def __post_init__(self) -> None:
        path = self.folder / f"{self.job}.window"
        self._state_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def run(self) -> int:
        """Wait for cores, run the job, and return its exit code."""
        self.is_first = self._lock_job()
        if not self.is_first:
            print_line(f"{self.job} already has a window")
            return 2
        self.supervisor.catch_signals()
        try:
            self._write_state("pending")
            with self._acquire_cores() as cores:
                code = self._run_script(cores)
                self._write_exit_code(code)  # before the next job gets the cores
            return code
        except StoppedError:
            print_line("stopped before it began")
            code = 0
        except OSError as error:  # e.g. the disk is full
            line = f"error: {error}"
            print_line(line)
            with contextlib.suppress(OSError), (self.folder / f"{self.job}.out").open("a") as file:
                file.write(f"{line}\n")
            code = 1
        self._write_exit_code(code)
        return code

    def _lock_job(self) -> bool:
        """Lock the job's state file; return False if another window holds it."""
        for _ in range(MAX_LOCK_ATTEMPTS):  # readers lock it for a moment, too
            try:
                fcntl.flock(self._state_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            else:
                os.ftruncate(self._state_file, 0)  # clears the state of an earlier window
                return True
        return False

    def _write_state(self, state: str) -> None:
        content = json.dumps({"state": state, "pid": os.getpid(), "host": socket.gethostname()})
        # One write of constant length: a concurrent reader must not find half of it, or nothing.
        os.pwrite(self._state_file, content.ljust(STATE_BYTES).encode(), 0)

    def _write_exit_code(self, code: int) -> None:
        """Write how the job ended; this program still holds the job's lock until it exits."""
        with contextlib.suppress(OSError):
            (self.folder / f"{self.job}.exit").write_text(f"{code}\n")
            self._write_state(STATE_DONE)

    @contextlib.contextmanager
    def _acquire_cores(self) -> Iterator[list[int]]:
        """Wait in the queue until enough cores are free, and hold their locks."""
        locks = find_lock_folder(Path(tempfile.gettempdir()))
        cores = sorted(os.sched_getaffinity(0))
        num_cores = min(self.num_workers, len(cores))
        print_line(f"waiting for {num_cores} of {len(cores)} cores")
        with contextlib.ExitStack() as core_locks:
            acquired: list[int] = []
            with core_queue(locks):
                while len(acquired) < num_cores:
                    for core in cores:
                        if len(acquired) < num_cores and (file := try_to_lock(locks / f"core-{core}")):
                            core_locks.enter_context(file)
                            acquired.append(core)
                    time.sleep(POLL_INTERVAL_S if len(acquired) < num_cores else 0)
            yield acquired

    def _run_script(self, cores: list[int]) -> int:
        """Run the job's script on `cores` and return its exit code."""
        os.sched_setaffinity(0, cores)  # inherited by the job
        start = time.monotonic()
        process = self.supervisor.start(["bash", self.folder / f"{self.job}.sh"], stderr=subprocess.PIPE)
        self._write_state("running")
        copier = threading.Thread(target=self._copy_stderr, args=(process.stderr,), daemon=True)
        copier.start()
        code = self.supervisor.wait()
        copier.join(self.supervisor.term_timeout)
        stopped = ", stopped on request" if self.supervisor.stop_requested else ""
        print_line(f"\n{self.job}: exit code {code} after {time.monotonic() - start:.0f} s{stopped}")
        return code

    def _copy_stderr(self, stream: IO[bytes]) -> None:
        """Copy the job's stderr to the window and to a file: a window keeps only its last lines."""
        with stream, (self.folder / f"{self.job}.out").open("ab", buffering=0) as file:
            for line in stream:
                for out in (file, sys.stderr.buffer):
                    with contextlib.suppress(OSError, ValueError):
                        out.write(line)
                        out.flush()


def close_terminal() -> None:
    """Close the window's terminal a moment before this program exits.

    When a terminal closes, tmux with utempter runs a helper program and misses the SIGCHLD of processes that exit
    meanwhile, so it would not show this program's exit code.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    devnull = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(devnull, stream)
    time.sleep(CLOSE_DELAY_S)


def main(argv: list[str]) -> int:
    """Run one job and return its exit code."""
    folder, job, num_workers = Path(argv[0]), argv[1], int(argv[2])
    runner = JobRunner(folder, job, num_workers)
    code = runner.run()
    temporary = ("sh", "yaml", "key") if "--clear" in argv[3:] else ("key",)
    for suffix in temporary if runner.is_first else ():
        (folder / f"{job}.{suffix}").unlink(missing_ok=True)
    close_terminal()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
