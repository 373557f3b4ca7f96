"""Measure the fixed costs of a run: ``-h``, start-up with cached compiled code, and memory of a worker."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from throughput import ENVIRONMENT, ROOT

MAIN = [sys.executable, "main.py"]


def help_seconds() -> float:
    """Return the duration of ``main.py -h`` in seconds."""
    started = time.perf_counter()
    subprocess.run([*MAIN, "-h"], env=ENVIRONMENT, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def start(env_id: str, folder: str, iterations: int) -> tuple[float, float]:
    """Train for a few iterations; return the seconds to the end of the first one, and the peak memory in MB."""
    flags = [f"--env_id={env_id}", f"--num_iters={iterations}", f"--data_dir={folder}", "--uuid=x", "--compile"]
    flags += ["--eval_frequency=0", "--eval_episodes=1"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*MAIN, "--task=train", *flags],
        env=ENVIRONMENT,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    progress = Path(folder) / "logs/x/progress.csv"
    while not (progress.exists() and len(progress.read_text().splitlines()) > 1):
        if process.poll() is not None:
            sys.exit(f"a run of {env_id} ended before its first iteration")
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"a run of {env_id} failed")
    return seconds, usage.ru_maxrss / 1024


def second_start(env_id: str) -> tuple[float, float]:
    """Return the result of `start` for a second run, which finds compiled code in the cache."""
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            result = start(env_id, folder, 8)
    return result
