"""Selection of threads, GPU and compiler."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from milozero.helpers.comm import launched_rank
from milozero.helpers.errors import UserError
from milozero.helpers.logging import logger

if TYPE_CHECKING:
    from milozero.experiment.settings import Settings
    from milozero.helpers.comm import Comm

COMPILE_MIN_STEPS = 30_000  # optimizer steps from which compiling saves more time than it takes


def use_one_thread() -> None:
    """Limit torch to one thread, regardless of the environment: runs are parallelized over workers."""
    import torch  # takes a second, which tasks without networks can save

    torch.set_num_threads(1)


def select_device(settings: Settings, comm: Comm) -> str:
    """Return the torch device of this worker.

    Raises:
        UserError: if ``--cuda`` is set and no GPU is available.
    """
    if not settings.common.cuda:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            "--cuda: no GPU is available (torch.cuda.is_available() is False); remove the flag to use the CPU"
        )
    return f"cuda:{comm.local_rank % torch.cuda.device_count()}"


def find_compiler() -> list[str]:
    """Return the command of the C++ compiler that torch uses."""
    return shlex.split(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


def can_compile(device: str) -> bool:
    """Return whether torch.compile has what it needs: a C++ compiler, Python's headers and, on a GPU, triton."""
    headers = (Path(sysconfig.get_path("include")) / "Python.h").exists()
    triton = device == "cpu" or importlib.util.find_spec("triton") is not None
    return shutil.which(find_compiler()[0]) is not None and headers and triton


def try_to_compile() -> str:
    """Compile a one-line program; return why that failed, or an empty string.

    An installed compiler may not work, e.g. because its own files are missing or a disk is full.
    """
    torch = importlib.util.find_spec("torch")
    if torch is not None and any(map(str.isspace, str(torch.origin))):
        return f"{torch.origin} has a space in its path, which torch does not quote for the compiler"
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [*find_compiler(), "-x", "c++", "-", "-o", f"{folder}/program"]
            done = subprocess.run(command, input="int main() {}", capture_output=True, text=True, errors="replace")
    except OSError as error:
        return str(error)
    if not done.returncode:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error: " in line), (lines or [f"exit code {done.returncode}"])[0])


def should_compile(
    settings: Settings, workers: int, device: str, was_compiled: bool | None, expert_steps: int
) -> bool:
    """Return whether to compile the update: as ``--compile`` sets, else if the run is long enough to benefit.

    Args:
        settings: of the run.
        workers: number of workers.
        device: torch device of the networks.
        was_compiled: whether a resumed run was compiled, which it stays if possible; None for a new run.
        expert_steps: steps per epoch over all workers, for algorithms that learn from demonstrations only.

    If the compiler does not work and ``--compile`` is not set, this only warns, and the run is not compiled.

    Raises:
        UserError: if ``--compile`` is set and a requirement is missing or does not work.
    """
    wanted = _wants_to_compile(settings, workers, device, was_compiled, expert_steps)
    problem = try_to_compile() if wanted else ""
    if problem and settings.train.compile:
        raise UserError(f"--compile does not work here: {problem}; remove the flag to train without it")
    if problem and launched_rank() == 0:
        logger.warning(f"training is slower, because the update cannot be compiled: {problem}")
    return wanted and not problem


def _wants_to_compile(
    settings: Settings, workers: int, device: str, was_compiled: bool | None, expert_steps: int
) -> bool:
    train, agent = settings.train, settings.agent
    possible = can_compile(device)
    if train.compile and not possible:
        triton = "" if device == "cpu" else ", and triton (pip install triton)"
        need = f"a C++ compiler and Python's headers (apt install g++ python3-dev){triton}"
        raise UserError(f"--compile needs {need}; remove the flag to train without it")
    if train.compile is not None:
        return bool(train.compile)
    if was_compiled is not None:
        return was_compiled and possible
    iterations = min(train.num_timesteps / (train.rollout_len * workers), train.num_iters or float("inf"))
    steps = train.rollout_len
    if agent.learns_offline():
        steps = expert_steps // settings.imitation.demo_subsampling // workers
    return possible and iterations * agent.optimizer_steps(steps, workers) >= COMPILE_MIN_STEPS
