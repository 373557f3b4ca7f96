"""Log metrics and files to Weights & Biases, offline if there is no API key, without ever blocking training."""

from __future__ import annotations

import contextlib
import glob
import logging
import math
import netrc
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from milozero.helpers.comm import launched_size
from milozero.helpers.logging import logger
from milozero.tracking.tracker import TRACKER_THREAD_NAME, Tracker, TrackingConfig

log_file = logging.getLogger(__name__)  # for messages that go only to log.txt

INIT_TIMEOUT_S = 30.0  # for the server to create the run; after that the run is kept offline
FINISH_TIMEOUT_S = 60.0  # for the client to upload the rest
FINISH_MARGIN_S = 10.0  # for the client to notice its own timeout
QUIET_WAIT_S = 3.0  # before printing that the run waits
UPLOAD_INTERVAL_S = 600.0  # between uploads of files that change


def client_settings() -> Any:
    """Return the client's settings, from its environment variables and ``wandb login`` or ``wandb offline``."""
    import wandb

    os.environ["WANDB_SILENT"] = "true"  # the console tracker owns the terminal
    return wandb.setup().settings


def has_key(server: str) -> bool:
    """Return whether there is an API key for a server: in WANDB_API_KEY, or stored by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(server).hostname or ""
    with contextlib.suppress(OSError, ValueError, netrc.NetrcParseError):  # missing, not text, or malformed
        return netrc.netrc(os.environ.get("NETRC") or None).authenticators(host) is not None
    return False


def _stop_service() -> None:
    """Stop the client's service process, which could otherwise print errors when Python exits."""
    import wandb

    wandb.teardown()


def _kill_service() -> None:
    """Kill the client's service process (on Linux), which keeps our stdout open forever if it hangs.

    The client does not expose its process id. Running the client in a child process would not be simpler: it needs a
    queue, signal handling and a start method that works under mpiexec.
    """
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # the process has ended meanwhile
            pid, name, _state, parent = stat.read_text().split()[:4]
            if name == "(wandb-core)" and int(parent) == os.getpid():
                os.kill(int(pid), signal.SIGKILL)


class WandbTracker(Tracker):
    """Logs to one W&B run. Its files are in ``data/wandb``; ``wandb sync`` uploads what is missing on the server.

    A background thread makes all calls of the client, in order, so a slow or failing server never blocks training.
    Errors go to log.txt; the last one is also printed at the end. A resumed run keeps its `run_id`, and the client
    skips steps that the server already has.

    Args:
        tracking: names the project and the entity.
        data: folder that contains ``wandb/``.
        run_id: id of the run, to resume it later.
        files: files to upload from time to time and at the end, as ``<folder>/<name>``; missing files are skipped.
        init: other arguments of ``wandb.init``: name, group and config.
    """

    def __init__(self, tracking: TrackingConfig, data: Path, run_id: str, files: Sequence[Path], **init: Any) -> None:
        where = {"project": tracking.wandb_project, "entity": tracking.wandb_entity or None, "dir": str(data)}
        self._init_kwargs: dict[str, Any] = {"id": run_id, "resume": "allow", **where, **init}
        self._files = files
        self._uploaded = dict[Path, int]()  # file → modification time of its last upload, in ns
        self._last_upload_time = time.monotonic()
        self._run: Any = None
        self._exit_code = 0
        self._last_problem = ""
        self._location = ""  # URL or folder of the run, once it exists
        self._abandoned = False
        self._finished = threading.Event()  # not thread.join(): it may return early after a signal (bpo-46726)
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_calls, name=TRACKER_THREAD_NAME, daemon=True)
        self._thread.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics; NaNs are omitted."""
        measured = {k: v for k, v in metrics.items() if not math.isnan(v)}
        self._submit(lambda: self._run.log(measured, step=step))
        if time.monotonic() - self._last_upload_time > UPLOAD_INTERVAL_S:
            self._last_upload_time = time.monotonic()
            self._submit(self._upload_files)

    def log_video(self, name: str, path: Path, caption: str = "") -> None:
        """Log an mp4 file. Each has its own row, because a row has one value of each name."""

        def log() -> None:
            import wandb

            self._run.log({name: wandb.Video(str(path), caption, format="mp4")})

        self._submit(log)

    def close(self) -> None:
        """Start the last upload and finish the run, as failed if an exception is being handled."""
        self._exit_code = int(sys.exc_info()[0] is not None)
        self._submit(self._upload_files)
        self._submit(None)

    def wait(self, timeout_s: float = math.inf, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Wait until the run is finished, then print the last error and where the run is.

        The wait ends after `timeout_s`, after the client's own timeouts, or if `interrupted()` is true.
        """
        timeout_s = min(timeout_s, INIT_TIMEOUT_S + FINISH_TIMEOUT_S + FINISH_MARGIN_S)
        start, announced = time.monotonic(), False
        while not self._finished.wait(0.1) and not interrupted() and (waited := time.monotonic() - start) < timeout_s:
            if waited > QUIET_WAIT_S and not announced:
                announced = True
                # A launcher handles Ctrl-C itself.
                how = "send SIGUSR1 to the launcher" if launched_size() > 1 else "press Ctrl-C"
                logger.info(f"waiting for Weights & Biases to finish; {how} to stop waiting, no local data is lost")
        if not self._finished.is_set():
            remedy = f"upload the rest with {self._sync_command()}" if self._run else "the run was not created"
            self._report(f"timed out; {remedy}; progress.csv has all metrics")
            self._abandoned = True
            _kill_service()
        if self._last_problem:
            logger.warning(f"Weights & Biases: {self._last_problem}")
        if self._location:
            logger.info(f"Weights & Biases:  {self._location}")

    def _submit(self, call: Callable[[], None] | None) -> None:
        """Queue a call for the thread, unless the thread has already ended."""
        if not self._finished.is_set():
            self._calls.put(call)

    def _run_calls(self) -> None:
        try:
            self._run = self._init_run()
            if not self._run.disabled:
                self._location = self._run.url or f"offline; upload it with {self._sync_command()}"
            while (call := self._calls.get()) and not self._abandoned:
                self._try(call)
            self._finish_run()
        except Exception as error:  # a tracker must never stop the run
            self._report(error)
        self._try(_stop_service)
        self._finished.set()

    def _sync_command(self) -> str:
        """Return the command that uploads the run's folder."""
        online = " --include-online" if self._run.url else ""
        return f"`wandb sync{online} {Path(self._run.dir).parent}`"

    def _init_run(self) -> Any:
        """Return the run: online if there is a key and the server responds, else offline."""
        import wandb

        client = client_settings()
        mode = "offline" if client.mode == "dryrun" else client.mode
        settings = wandb.Settings(
            console="off", init_timeout=INIT_TIMEOUT_S, finish_timeout=FINISH_TIMEOUT_S, finish_timeout_raises=True
        )
        if mode not in ("offline", "disabled") and has_key(client.base_url):
            try:
                return wandb.init(**self._init_kwargs, settings=settings, mode="online")
            except Exception as error:
                if self._abandoned:
                    raise
                self._report(f"{error}; the run is kept offline, upload it later with `wandb sync`")
                self._try(_stop_service)  # the service refuses a second run with the same id
        return wandb.init(
            **self._init_kwargs, settings=settings, mode="disabled" if mode == "disabled" else "offline"
        )

    def _finish_run(self) -> None:
        try:
            self._run.finish(exit_code=self._exit_code)
        except TimeoutError:
            self._report(f"upload incomplete after {FINISH_TIMEOUT_S:.0f} s; finish it with {self._sync_command()}")

    def _upload_files(self) -> None:
        """Upload the files that are new or have changed."""
        for path in self._files:
            with contextlib.suppress(FileNotFoundError):
                modified = path.stat().st_mtime_ns
                if self._uploaded.get(path) != modified:
                    self._run.save(glob.escape(str(path)), base_path=str(path.parent.parent), policy="now")
                    self._uploaded[path] = modified

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._report(error)

    def _report(self, problem: str | Exception) -> None:
        """Log a problem, once if it repeats, and not after giving up, when errors are only consequences."""
        message = " ".join(str(problem).split()) or type(problem).__name__
        if message != self._last_problem and not self._abandoned:
            self._last_problem = message
            log_file.warning("Weights & Biases: %s", message)
