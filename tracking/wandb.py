"""Metrics and files to Weights & Biases, offline where there is no key; training never waits for it."""

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
from milozero.tracking.tracker import BACKGROUND, Tracker

log_file = logging.getLogger(__name__)  # what is only for log.txt

INIT_TIMEOUT_S = 30.0  # seconds for the server to take the run; then it is kept offline
FINISH_TIMEOUT_S = 60.0  # seconds for what is left to be uploaded
GRACE_S = 10.0  # seconds more, for the client to notice that itself
QUIET_WAIT_S = 3.0  # seconds to wait for the end without a word
UPLOAD_INTERVAL_S = 600.0  # seconds between uploads of files that change


def client_settings() -> Any:
    """Return the client's own settings: of its variables, of ``wandb login --host`` and ``wandb offline``."""
    import wandb

    os.environ["WANDB_SILENT"] = "true"  # the terminal is the console tracker's
    return wandb.setup().settings


def has_key(server: str) -> bool:
    """Tell whether there is a key for a server: in the variable, or where ``wandb login`` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(server).hostname or ""
    with contextlib.suppress(OSError, ValueError, netrc.NetrcParseError):  # not there, no text, not its form
        return netrc.netrc(os.environ.get("NETRC") or None).authenticators(host) is not None
    return False


def _end_service() -> None:
    """End the client's own process, which would otherwise be ended, and may complain, when Python exits."""
    import wandb

    wandb.teardown()


def _kill_service() -> None:
    """Kill the client's own process (on Linux): one that is stuck would hold a pipe open for ever."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # one that has ended meanwhile
            pid, name, _state, parent = stat.read_text().split()[:4]
            if name == "(wandb-core)" and int(parent) == os.getpid():
                os.kill(int(pid), signal.SIGKILL)


class WandbTracker(Tracker):
    """One W&B run; its files lie under ``data/wandb``, and ``wandb sync`` uploads what did not go up by itself.

    All calls of the client are made by a thread of their own, in the order in which they were asked for: a server
    that is slow, silent or wrong holds nobody up. What goes wrong is a line in the log, and the last of it one on
    stderr in the end. A resumed run goes on under the same `run_id`; of steps that the server has already, the client
    sends nothing.

    Args:
        project, entity, name, group, config: of the run.
        data: folder in which ``wandb/`` is made.
        run_id: by which a resumed run is the same one; made up where there is none.
        files: to upload now and then and at the end, each as ``<its folder>/<its name>``, as far as they are there.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str,
        name: str,
        group: str,
        config: dict[str, Any],
        data: Path,
        run_id: str | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        self._arguments: dict[str, Any] = {
            "project": project,
            "entity": entity or None,
            "name": name,
            "group": group,
            "id": run_id,
            "resume": "allow" if run_id else None,
            "config": config,
            "dir": str(data),
        }
        self._files = files
        self._uploaded = dict[Path, int]()  # file → when it was changed, as of its last upload
        self._last_upload = time.monotonic()
        self._run: Any = None
        self._exit_code = 0
        self._said = ""  # the last complaint
        self._where = ""  # the run is, once it has begun
        self._given_up = False
        self._ended = threading.Event()  # a thread that is waited for may look ended after a signal (bpo-46726)
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=BACKGROUND, daemon=True)
        self._thread.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Send what was measured."""
        measured = {k: v for k, v in metrics.items() if not math.isnan(v)}
        self._ask(lambda: self._run.log(measured, step=step))
        if time.monotonic() - self._last_upload > UPLOAD_INTERVAL_S:
            self._last_upload = time.monotonic()
            self._ask(self._upload)

    def show(self, name: str, video: Path) -> None:
        """Send a video, an mp4 file."""

        def send() -> None:
            import wandb

            self._run.log({name: wandb.Video(str(video), format="mp4")})

        self._ask(send)

    def close(self) -> None:
        """Ask for the last upload and the end of the run, as failed while an exception is on its way."""
        self._exit_code = int(sys.exc_info()[0] is not None)
        self._ask(self._upload)
        self._ask(None)

    def wait(self, seconds: float = math.inf, over: Callable[[], bool] = lambda: False) -> None:
        """Wait for that end, but not for ever; say what went wrong, and where the run is."""
        seconds = min(seconds, INIT_TIMEOUT_S + FINISH_TIMEOUT_S + GRACE_S)
        begun, told = time.monotonic(), False
        while not self._ended.wait(0.1) and not over() and (waited := time.monotonic() - begun) < seconds:
            if waited > QUIET_WAIT_S and not told:
                told = True
                how = (
                    "SIGUSR1 to the launcher" if launched_size() > 1 else "Ctrl-C"
                )  # which a launcher takes for itself
                logger.info(f"waiting for Weights & Biases to finish; {how} ends the wait, and loses nothing here")
        if not self._ended.is_set():
            there = f"{self._sync()} uploads what is there" if self._run else "it had not begun"
            self._complain(f"it has not ended in time; {there}, progress.csv has everything")
            self._given_up = True
            _kill_service()
        if self._said:
            logger.warning(f"Weights & Biases: {self._said}")
        if self._where:
            logger.info(f"Weights & Biases:  {self._where}")

    def _ask(self, call: Callable[[], None] | None) -> None:
        """Have the thread do something; where it has ended before its time, nobody would."""
        if not self._ended.is_set():
            self._asked.put(call)

    def _work(self) -> None:
        try:
            self._run = self._begin()
            if not self._run.disabled:
                self._where = self._run.url or f"offline; {self._sync()} uploads it"
            while (call := self._asked.get()) and not self._given_up:
                self._try(call)
            self._end()
        except Exception as error:  # a tracker must never cost the run
            self._complain(error)
        self._try(_end_service)
        self._ended.set()

    def _sync(self) -> str:
        """Return the command that uploads the run's folder."""
        online = " --include-online" if self._run.url else ""
        return f"`wandb sync{online} {Path(self._run.dir).parent}`"

    def _begin(self) -> Any:
        """Return the run: with the server where there is a key and it answers, else offline."""
        import wandb

        mine = client_settings()
        mode = "offline" if mine.mode == "dryrun" else mine.mode
        settings = wandb.Settings(
            console="off", init_timeout=INIT_TIMEOUT_S, finish_timeout=FINISH_TIMEOUT_S, finish_timeout_raises=True
        )
        if mode not in ("offline", "disabled") and has_key(mine.base_url):
            try:
                return wandb.init(**self._arguments, settings=settings, mode="online")
            except Exception as error:
                if self._given_up:
                    raise
                self._complain(f"{error}; the run is kept offline, and `wandb sync` uploads it")
                self._try(_end_service)  # it refuses to begin a second run of that id
        return wandb.init(**self._arguments, settings=settings, mode="disabled" if mode == "disabled" else "offline")

    def _end(self) -> None:
        try:
            self._run.finish(exit_code=self._exit_code)
        except TimeoutError:
            self._complain(f"not all went up within {FINISH_TIMEOUT_S:.0f} s; {self._sync()} uploads the rest")

    def _upload(self) -> None:
        """Send those files that are new or have changed."""
        for path in self._files:
            with contextlib.suppress(FileNotFoundError):
                changed = path.stat().st_mtime_ns
                if self._uploaded.get(path) != changed:
                    self._run.save(glob.escape(str(path)), base_path=str(path.parent.parent), policy="now")
                    self._uploaded[path] = changed

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._complain(error)

    def _complain(self, what: str | Exception) -> None:
        """Put into the log what went wrong, once while it stays the same; nothing of what giving up brings about."""
        message = " ".join(str(what).split()) or type(what).__name__
        if message != self._said and not self._given_up:
            self._said = message
            log_file.warning("Weights & Biases: %s", message)
