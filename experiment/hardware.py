"""Selection of threads, GPU and compiler."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from milozero.helpers.errors import UserError

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


def can_compile(device: str) -> bool:
    """Return whether torch.compile works: it needs a C++ compiler, Python's headers and, on a GPU, triton."""
    compiler = shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))
    headers = (Path(sysconfig.get_path("include")) / "Python.h").exists()
    triton = device == "cpu" or importlib.util.find_spec("triton") is not None
    return compiler is not None and headers and triton


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

    Raises:
        UserError: if ``--compile`` is set and a requirement is missing.
    """
    train, agent = settings.train, settings.agent
    possible = can_compile(device)
    if train.compile and not possible:
        triton = "" if device == "cpu" else ", and triton (pip install triton)"
        need = f"a C++ compiler and Python's headers (apt install g++ python3-dev){triton}"
        raise UserError(f"--compile needs {need}; remove the flag to train without")
    if train.compile is not None:
        return bool(train.compile)
    if was_compiled is not None:
        return was_compiled and possible
    iterations = min(train.num_timesteps / (train.rollout_len * workers), train.num_iters or float("inf"))
    steps = train.rollout_len
    if not agent.LEARNS_FROM_ROLLOUTS:
        steps = expert_steps // settings.imitation.demo_subsampling // workers
    return possible and iterations * agent.epochs * (steps // agent.batch_size) >= COMPILE_MIN_STEPS
