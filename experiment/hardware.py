"""What a run makes use of on its machine: threads, a GPU, a compiler."""

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

COMPILE_MIN_STEPS = 30_000  # minibatches, from which on compiled code saves more time than its compilation takes


def use_one_thread() -> None:
    """Let torch compute with one thread, whatever the environment says: workers are the parallel unit."""
    import torch  # takes a second, which tasks without networks do not have to wait

    torch.set_num_threads(1)


def select_device(settings: Settings, comm: Comm) -> str:
    """Return the torch device of this worker.

    Raises:
        UserError: where ``--cuda`` was given and there is no GPU.
    """
    if not settings.common.cuda:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise UserError("--cuda: no GPU can be used here (torch sees none); run without it")
    return f"cuda:{comm.local_rank % torch.cuda.device_count()}"


def can_compile(device: str) -> bool:
    """Return whether what compiling needs is here: a C++ compiler and Python's headers, for a GPU also triton."""
    compiler = shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))
    headers = (Path(sysconfig.get_path("include")) / "Python.h").exists()
    triton = device == "cpu" or importlib.util.find_spec("triton") is not None
    return compiler is not None and headers and triton


def should_compile(settings: Settings, workers: int, device: str, before: bool | None, expert_steps: int) -> bool:
    """Return whether the update is compiled: as asked, or where it can be and the run is long enough to pay for it.

    A resumed run does as it did `before`, where it can. Algorithms that learn from demonstrations alone learn from
    `expert_steps` in a pass, shared among the workers; others from a rollout.

    Raises:
        UserError: where ``--compile`` was given and what it needs is missing.
    """
    train, agent = settings.train, settings.agent
    possible = can_compile(device)
    if train.compile and not possible:
        triton = "" if device == "cpu" else ", and triton (pip install triton)"
        need = f"a C++ compiler and Python's headers (apt install g++ python3-dev){triton}"
        raise UserError(f"--compile needs {need}; leave it out to train without")
    if train.compile is not None:
        return bool(train.compile)
    if before is not None:
        return before and possible
    iterations = min(train.num_timesteps / (train.rollout_len * workers), train.num_iters or float("inf"))
    steps = train.rollout_len
    if not agent.LEARNS_FROM_ROLLOUTS:
        steps = expert_steps // settings.imitation.demo_subsampling // workers
    return possible and iterations * agent.epochs * (steps // agent.batch_size) >= COMPILE_MIN_STEPS
