"""Checks of a training run: budget, throughput, synchronized parameters, finite numbers."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from milozero.agents.base import Agent
from milozero.experiment.checkpoint import convert_errors
from milozero.experiment.initializer import ExperimentInitializer
from milozero.experiment.settings import TrainConfig
from milozero.experiment.status import Counters, read_status
from milozero.helpers.comm import Comm
from milozero.helpers.errors import NonFiniteError, RunError
from milozero.helpers.files import write_bytes
from milozero.helpers.logging import logger, pluralize
from milozero.training.pace import Pace
from milozero.training.run import Training


def budget_exhausted(counters: Counters, config: TrainConfig) -> str:
    """Return which budget is exhausted, steps or iterations; empty if neither is."""
    if counters.timesteps >= config.num_timesteps:
        return f"num_timesteps={config.num_timesteps} reached"
    if config.num_iters is not None and counters.iteration >= config.num_iters:
        return f"num_iters={config.num_iters} reached"
    return ""


def find_end(experiment: ExperimentInitializer) -> str:
    """Return why there is nothing left to train in a run to resume; empty if there is, or if it did not end normally.

    Raises:
        UserError: if the counters of its checkpoint are invalid.
    """
    content, status, counters = experiment.checkpoint, read_status(experiment.logs), Counters()
    if content is None or status.get("state") != "finished":
        return ""
    with convert_errors():
        counters.load_state_dict(content["counters"])
    agent = dataclasses.asdict(experiment.settings.agent)  # a larger --bc_patience continues the run
    same_agent = all(content["config"].get(name) == value for name, value in agent.items())
    stopped_early = status.get("learned") is True and status.get("iteration") == counters.iteration and same_agent
    reason = budget_exhausted(counters, experiment.settings.train) or (stopped_early and str(status.get("reason")))
    iterations = pluralize(counters.iteration, "iteration")
    return f"{reason} after {iterations}, {counters.timesteps:,} steps" if reason else ""


def throughput(counters: Counters, config: TrainConfig, remaining_seconds: float, pace: Pace) -> dict[str, float]:
    """Return the speed of the run and its estimated time left, which is at most `remaining_seconds`."""
    time_left = pace.time_left(counters.seconds, counters.progress(config))
    return {
        "seconds": counters.seconds,
        "steps_per_second": counters.timesteps / counters.seconds,
        "time_left": max(min(time_left, remaining_seconds), 0.0) if math.isfinite(time_left) else math.nan,
    }


def check_param_sync(agent: Agent, comm: Comm) -> None:
    """Check that all workers have the same agent: networks, optimizers and normalizers (collective).

    Raises:
        RunError: if they differ; the message names the parts of `Agent.state_dict` and the ranks.
    """
    hashes = comm.allgather({name: checksum(part) for name, part in agent.state_dict().items()})
    ranks = [rank for rank, parts in enumerate(hashes) if parts != hashes[0]]
    if ranks:
        names = sorted({name for rank in ranks for name, _ in hashes[rank].items() ^ hashes[0].items()})
        parts = ", ".join(names)
        raise RunError(f"workers are out of sync: {parts} of ranks {ranks} differ from rank 0", everywhere=True)


def checksum(state: Any, start: int = 0) -> int:
    """Return the CRC-32 of the bits of all tensors and plain values in nested mappings."""
    if isinstance(state, Mapping):
        return functools.reduce(lambda value, part: checksum(part, value), state.values(), start)
    data = state.cpu().numpy().tobytes() if isinstance(state, torch.Tensor) else repr(state).encode()
    return zlib.crc32(data, start)


def dump_nonfinite(run: Training, error: NonFiniteError) -> str:
    """Write the evidence of a NaN or infinite value on the worker that has it, and return the error message."""
    path = run.experiment.logs / "non_finite.pt"
    if error.rank in (None, run.comm.rank):
        context = {"message": str(error), "worker": run.comm.rank, "iteration": run.counters.iteration + 1}
        evidence = {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in error.evidence.items()}
        buffer = io.BytesIO()
        torch.save(context | evidence, buffer)
        try:
            write_bytes(path, buffer.getvalue())
        except OSError as problem:
            logger.warning(f"cannot write {path}: {problem.strerror}")
    if error.rank is not None:
        run.comm.barrier()  # or another worker might abort the job before the file is written
    worker = f"worker {run.comm.rank}: " if error.rank is None else ""
    saved = run.status.saved_iteration
    kept = "there is no checkpoint yet" if saved is None else f"the checkpoint of iteration {saved} is kept"
    location = f"{run.experiment.env_id}, iteration {run.counters.iteration + 1}"
    return f"{location}: {worker}{error}; {kept}; for the values that led to it, see {path}"
