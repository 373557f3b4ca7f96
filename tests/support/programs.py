"""Run main.py and spawner.py, in this process or as a program."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from milozero import main, spawner
from tests.support import ROOT

AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
Result = subprocess.CompletedProcess[str]


@contextlib.contextmanager
def process_state(folder: Path, argv: list[str], env: Mapping[str, str]) -> Iterator[None]:
    """Set the working directory, variables and arguments of this process, and restore them on exit."""
    before, arguments, cwd, temporary = dict(os.environ), sys.argv, Path.cwd(), tempfile.tempdir
    try:
        os.environ.clear()
        os.environ.update(env)
        sys.argv, tempfile.tempdir = argv, None
        os.chdir(folder)
        yield
    finally:
        os.chdir(cwd)
        sys.argv, tempfile.tempdir = arguments, temporary
        os.environ.clear()
        os.environ.update(before)


def call(
    program: Callable[[list[str]], int], folder: Path, words: Iterable[str], env: Mapping[str, str] | None = None
) -> Result:
    """Call ``main(argv)`` of a program in this process, which avoids the start-up time of a new one.

    Args:
        program: main.main or spawner.main.
        folder: the working directory.
        words: the arguments.
        env: all environment variables; by default those of this process.
    """
    argv = list(words)
    out, err = io.StringIO(), io.StringIO()
    with (
        process_state(folder, [f"{program.__module__}.py", *argv], os.environ if env is None else env),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = program(argv)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def call_main(
    tmp_path: Path, *args: str, data: Path | None = None, env: Iterable[Any] = (), timeout: float = 0.0
) -> Result:
    """Call main.py in this process, with its data under `tmp_path`; `timeout` is ignored."""
    return call(main.main, tmp_path, [f"--data_dir={data or tmp_path / 'data'}", *args], os.environ | dict(env))


def call_spawner(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> Result:
    """Call spawner.py in this process."""
    return call(spawner.main, folder, args, env)


def start_main(
    tmp_path: Path,
    *args: str,
    workers: int = 0,
    env: Iterable[Any] = (),
    data: Path | None = None,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Start main.py as a program, with its data under `tmp_path`."""
    program = [sys.executable, str(ROOT / "main.py"), f"--data_dir={data or tmp_path / 'data'}", *args]
    launcher = [str(shutil.which("mpiexec")), "-n", str(workers)] if workers else []
    inherited = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    environment = inherited | AS_ROOT | dict(env)
    return subprocess.Popen(
        launcher + program, stdout=stdout, stderr=stderr, text=True, env=environment, cwd=tmp_path
    )


def run_main(tmp_path: Path, *args: str, timeout: float = 500, **options: Any) -> Result:
    """Run main.py as a program until it exits."""
    with start_main(tmp_path, *args, **options) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
