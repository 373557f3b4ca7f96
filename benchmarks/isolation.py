"""Run tests in copies of the checkout, inside process namespaces that no started process can escape.

A server imports slow third-party modules, but none of this project's, and forks for each request, so that tests start
within half a second.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from compileall import compile_dir
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Modules that are slow to import. They must not start threads or MPI.
HEAVY = (
    "torch torch._dynamo numpy scipy.stats gymnasium envpool h5py "
    "minari wandb matplotlib.pyplot hypothesis opensim imageio yaml rich.live libtmux jinja2 pytest"
)
NAMESPACE = ("unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc")


class SelectAndLog:
    """A pytest plugin that selects and orders tests and logs each of their events as a JSON line."""

    def __init__(self, tests: Sequence[str], log: Path) -> None:
        self.rank = {test: k for k, test in enumerate(tests)}
        self.log = log.open("a", buffering=1)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the requested tests in their order; if only files are given, keep all tests."""
        if any("::" in test for test in self.rank):
            items[:] = sorted((i for i in items if i.nodeid in self.rank), key=lambda i: self.rank[i.nodeid])

    def pytest_collectreport(self, report: Any) -> None:
        """Log modules that cannot be imported."""
        if report.failed:
            print(json.dumps(["failed", report.nodeid, 0.0]), file=self.log)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Log the start of a test, to identify it if it hangs or crashes the process."""
        print(json.dumps(["started", nodeid, 0.0]), file=self.log)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Log the outcome of a test's setup, call or teardown."""
        print(json.dumps(["failed" if report.failed else "ran", report.nodeid, report.duration]), file=self.log)


def run_in_fork(request: dict[str, Any], log: Path) -> dict[str, Any]:
    """Run tests in a fork of this process, the first of its namespace; then kill all remaining processes."""
    import pytest

    log.write_text("")
    started, code = time.monotonic(), None
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            for stream in range(3):
                os.dup2(os.open(os.devnull, os.O_RDWR), stream)
            files = dict.fromkeys(test.partition("::")[0] for test in request["tests"])
            # Not --cov=milozero: coverage resolves its links, and would drop all files outside that folder.
            flags = ["-x"] if not request["trace"] else ["--cov=.", "--cov-context=test", "--cov-report="]
            os.environ["COVERAGE_FILE"] = request["trace"]
            plugin = SelectAndLog(request["tests"], log)
            code = int(pytest.main(["-p", "no:cacheprovider", "--tb=no", *flags, *files], [plugin]))
        finally:
            os._exit(70 if code is None else code)
    while code is None and time.monotonic() - started < request["timeout"]:
        if select.select([0], [], [], 0.01)[0]:  # the client is gone
            sys.exit(1)
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:  # this process also reaps orphans
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                break
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    events = [json.loads(line) for line in log.read_text().split("\n")[:-1]]
    return {"code": code, "seconds": time.monotonic() - started, "events": events}


def serve() -> int:
    """Import `HEAVY`, then run the tests requested on stdin."""
    if os.getpid() != 1:  # run_in_fork() kills every process it can reach
        sys.exit("error: isolation.py must be the first process of its namespace")
    with warnings.catch_warnings(action="ignore"):
        for module in HEAVY.split():
            with contextlib.suppress(Exception):  # not installed, or needs a display
                importlib.import_module(module)
    print(json.dumps("ready"), flush=True)
    for line in iter(sys.stdin.readline, ""):
        print(json.dumps(run_in_fork(json.loads(line), Path.cwd().parent / "log")), flush=True)
    return 0


def list_files() -> list[str]:
    """Return the files and links of the checkout, including untracked ones, except those that git ignores."""
    command = ["git", "-C", str(ROOT), "ls-files", "-coz", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted({name for name in names if name and (ROOT / name).exists()})


class Server:
    """A copy of the checkout and a process that runs tests in it."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.copy, self.scratch = folder / "copy", folder / "t"
        for name in list_files():
            (self.copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.copy / name, follow_symlinks=False)  # milozero/ consists of links
        compile_dir(self.copy, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)  # copies differ in mtime
        folders = {"TMPDIR": self.scratch, "HOME": self.scratch / "home", "XDG_CACHE_HOME": cache / "compiled"}
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [*NAMESPACE, sys.executable, str(self.copy / "benchmarks" / "isolation.py")],
            cwd=self.copy,
            env=os.environ | {k: str(v) for k, v in folders.items()} | one_thread | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # shields the server from Ctrl-C
        )
        try:
            self.answer()
        except BaseException:
            self.close()
            raise

    def answer(self) -> Any:
        """Read the next answer of the process."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                "the test process has exited; does this system support user namespaces (unshare --user)?"
            )
        return json.loads(line)

    def run(self, tests: Sequence[str], timeout: float, trace: Path | None = None) -> tuple[str, str, dict[str, Any]]:
        """Run tests; return the outcome ("survived", "killed", "timeout"), the last test involved and the answer."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        (self.scratch / "home").mkdir(parents=True)
        assert self.process.stdin
        request = {"tests": tests, "timeout": timeout, "trace": str(trace or "")}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.answer()
        nothing_collected = 5
        outcome = {None: "timeout", 0: "survived", nothing_collected: "survived"}.get(answer["code"], "killed")
        involved = [test for event, test, _ in answer["events"] if event in ("failed", "started")]
        return outcome, (involved or [""])[-1], answer

    def close(self) -> None:
        """Kill the process and everything that it started."""
        self.process.kill()  # unshare, and with it the namespace
        self.process.wait()


def run_parallel(
    items: Sequence[Any], servers: Sequence[Server], do: Callable[[Any, Server], None], title: str
) -> None:
    """Run `do` for each item on the next free server, with a progress bar."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    free: queue.Queue[Server] = queue.Queue()
    for server in servers:
        free.put(server)

    def one(item: Any) -> None:
        server = free.get()
        try:
            do(item, server)
        finally:
            free.put(server)

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar, ThreadPoolExecutor(len(servers)) as pool:
        futures = [pool.submit(one, item) for item in items]
        try:
            for future in bar.track(as_completed(futures), len(futures), description=title):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for server in servers:
                server.close()
            raise


if __name__ == "__main__":
    sys.exit(serve())
