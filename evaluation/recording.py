"""Record episodes during training, in another process: rendering takes a minute or two, and training continues."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milozero import environments
from milozero.environments.vector import close_env
from milozero.evaluation.episodes import make_eval_env
from milozero.evaluation.evaluate import evaluate_checkpoint, render_first_frame
from milozero.evaluation.loading import load_agent
from milozero.experiment.hardware import use_one_thread
from milozero.experiment.settings import EvalConfig
from milozero.helpers.comm import SIZE_VARIABLES, Comm
from milozero.helpers.errors import one_line
from milozero.helpers.files import write_bytes
from milozero.helpers.import_path import search_repository_last
from milozero.helpers.logging import logger
from milozero.helpers.supervisor import PR_SET_PDEATHSIG, prctl

NICENESS = 10  # on a busy core, workers get ten times as much time
CHECK_TIMEOUT_S = 60.0  # to render one frame
FINISH_TIMEOUT_S = 600.0  # at the end of a run, for the last video
QUIET_WAIT_S = 3.0  # before printing that the run waits
POLL_INTERVAL_S = 0.1
PROGRAM = """
import json, sys
sys.path, request = json.loads(sys.argv[1])
from milozero.evaluation.recording import main
main(request)
"""
LogVideo = Callable[[Path, str], None]  # called with a video and its caption


class Recorder:
    """Records an episode every so often; this one never does. Only rank 0 records."""

    def check(self) -> str:
        """Return why this machine cannot record; empty if it can."""
        return ""

    def start(self, folder: Path, iteration: int, checkpoint: Callable[[], bytes], *, is_last: bool) -> None:
        """Start to record an episode of a checkpoint, which is only made if it is recorded."""

    def collect(self, log: LogVideo) -> None:
        """Log a video that is complete."""

    def finish(self, log: LogVideo, interrupted: Callable[[], bool]) -> None:
        """Wait for the last video, unless `interrupted()` is true, and log it."""

    def close(self) -> None:
        """Stop recording."""


@dataclass
class Recording:
    """A video that is being recorded."""

    process: subprocess.Popen[str]
    folder: Path  # of the video and its results.json
    iteration: int

    @property
    def checkpoint(self) -> Path:
        """The policy to record, which the process removes."""
        return checkpoint_path(self.folder)


def checkpoint_path(folder: Path) -> Path:
    """Return the path of the checkpoint of a video in this folder."""
    return folder.parent / f".{folder.name}.pt"


class EpisodeRecorder(Recorder):
    """Records one episode at a time, the first of the evaluations during training.

    Each process makes its own environment, so that a recording cannot change what is learned. If one is still in
    progress when the next is due, the next is skipped, except for the last of a run.

    Args:
        env_id: full id of the environment.
        env_kwargs: its keyword arguments.
        modules: that the user named, to import first.
    """

    def __init__(self, env_id: str, env_kwargs: Mapping[str, Any], modules: Sequence[str] = ()) -> None:
        self._modules = [module for module in modules if module in sys.modules]
        self._check = self._spawn({"env_id": env_id, "env_kwargs": dict(env_kwargs)})
        self._start_time = time.monotonic()
        self._problem = ""
        self._current: Recording | None = None
        self._next: Callable[[], None] | None = None  # starts the last video of the run
        self._warned: set[str] = set()

    def check(self) -> str:
        """Return why this machine cannot record; empty if it can. Waits until one frame is rendered."""
        timeout = max(self._start_time + CHECK_TIMEOUT_S - time.monotonic(), 0.0)
        try:
            errors = self._check.communicate(timeout=timeout)[1]
        except subprocess.TimeoutExpired:
            self._check.kill()
            self._problem = f"rendering one frame took longer than {CHECK_TIMEOUT_S:.0f} s"
        else:
            self._problem = _describe_failure(self._check, errors)
        return self._problem

    def start(self, folder: Path, iteration: int, checkpoint: Callable[[], bytes], *, is_last: bool) -> None:
        """Start to record an episode of a checkpoint, unless another one is being recorded."""
        if self._problem:
            return
        if self._current is None:
            self._start(folder, iteration, checkpoint())
        elif is_last:
            data = checkpoint()
            self._next = lambda: self._start(folder, iteration, data)
        else:
            self._warn("skipping videos: recording one takes longer than --record_frequency iterations")

    def collect(self, log: LogVideo) -> None:
        """Log the video of the current recording if it is complete, or why it failed."""
        current = self._current
        if current is None or current.process.poll() is None:
            return
        self._current = None
        errors = current.process.communicate()[1]
        videos = sorted(current.folder.glob("*.mp4"))
        if problem := _describe_failure(current.process, errors):
            self._discard(current)
            self._warn(f"no video of iteration {current.iteration}: {problem}")
        for video in videos:
            log(video, f"iteration {current.iteration}")
        if self._next is not None:
            start, self._next = self._next, None
            start()

    def finish(self, log: LogVideo, interrupted: Callable[[], bool]) -> None:
        """Wait for the last video, unless `interrupted()` is true, and log it."""
        start, announced = time.monotonic(), False
        self.collect(log)
        while self._current is not None and not interrupted():
            waited = time.monotonic() - start
            if waited > QUIET_WAIT_S and not announced:
                announced = True
                logger.info("recording the last video; Ctrl-C skips it")
            if waited > FINISH_TIMEOUT_S:
                self._warn(f"no video of iteration {self._current.iteration}: it took too long")
                break
            time.sleep(POLL_INTERVAL_S)
            self.collect(log)
        self.close()

    def close(self) -> None:
        """Stop recording; an incomplete video is removed."""
        current, self._current, self._next = self._current, None, None
        for process in [self._check, *([current.process] if current else [])]:
            if process.returncode is None:
                process.kill()
                process.communicate()
        if current is not None:
            self._discard(current)

    def _start(self, folder: Path, iteration: int, data: bytes) -> None:
        folder = folder / f"iter_{iteration}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(checkpoint_path(folder), data)
            process = self._spawn({"folder": str(folder.absolute())})
        except OSError as error:
            self._warn(f"no video of iteration {iteration}: {error.strerror} ({folder})")
            return
        self._current = Recording(process, folder, iteration)

    def _spawn(self, request: Mapping[str, Any]) -> subprocess.Popen[str]:
        argument = json.dumps([sys.path, {**request, "modules": self._modules}])
        # Without a launcher's variables: it is no worker. In its own session: Ctrl-C is for the run.
        env = {name: value for name, value in os.environ.items() if name not in SIZE_VARIABLES}
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, argument],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=env,
            start_new_session=True,
        )

    def _discard(self, recording: Recording) -> None:
        """Remove what an incomplete recording leaves; an older video of the iteration stays."""
        with contextlib.suppress(OSError):
            recording.checkpoint.unlink(missing_ok=True)
            for file in recording.folder.glob(".*"):
                file.unlink()
            recording.folder.rmdir()  # if it is empty

    def _warn(self, message: str) -> None:
        """Log a warning, once if it repeats."""
        if message not in self._warned:
            self._warned.add(message)
            logger.warning(message)


def _describe_failure(process: subprocess.Popen[str], errors: str) -> str:
    """Return the last line that a failed process wrote; empty if it succeeded."""
    if not process.returncode:
        return ""
    lines = errors.strip().splitlines()
    if process.returncode < 0:
        return f"the renderer crashed ({signal.Signals(-process.returncode).name})"
    return one_line(lines[-1]) if lines else f"the renderer ended with exit code {process.returncode}"


def main(request: Mapping[str, Any]) -> None:
    """Record an episode, or check that one frame can be rendered, and exit; errors are printed as one line.

    Args:
        request: ``modules`` to import, and ``folder`` for the video, or ``env_id`` and ``env_kwargs`` to check.
    """
    code = 0
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # if the run is killed
        os.nice(NICENESS)
        search_repository_last()
        environments.choose_renderer()
        for module in request["modules"]:
            importlib.import_module(module)
        if "folder" in request:
            record_checkpoint(Path(request["folder"]))
        else:
            check_rendering(request["env_id"], request["env_kwargs"])
    except BaseException as error:  # environments raise arbitrary exceptions
        code = 1
        print(one_line(str(error) or type(error).__name__), file=sys.stderr, flush=True)
    os._exit(code)  # a simulator may hang in its destructor


def check_rendering(env_id: str, env_kwargs: Mapping[str, Any]) -> None:
    """Render one frame of an environment.

    Raises:
        UserError: if it cannot be rendered on this machine.
    """
    env = environments.make_env(env_id, "rgb_array", env_kwargs)
    try:
        render_first_frame(env, seed=0)
    finally:
        close_env(env)


def record_checkpoint(folder: Path) -> None:
    """Record the first episode of the evaluations during training, as ``episode_000.mp4`` with its ``results.json``.

    The checkpoint, at `checkpoint_path`, is removed.

    Raises:
        UserError: if the checkpoint cannot be loaded or its environment not rendered.
        RunError: if a file cannot be written.
    """
    use_one_thread()
    path = checkpoint_path(folder)
    loaded = load_agent(path, rendered=True)
    path.unlink()
    common, seed = loaded.settings.common, loaded.settings.common.seed or 0
    evaluate_checkpoint(
        loaded.agent,
        functools.partial(make_eval_env, loaded.env_id, loaded.env_kwargs, seed),
        EvalConfig(record=True, num_trajs=1, episode_seeds="training"),
        seed,
        folder,
        {"env_id": loaded.env_id, "checkpoint": f"{folder.name}.pt", "iteration": loaded.iteration},
        Comm(),
        common.eval_max_steps,
        stochastic=common.eval_stochastic,
    )
