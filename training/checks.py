"""Checks of a training run: its budget, its speed, parameters that must agree, numbers that must be finite."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch

from milozero import environments
from milozero.agents.base import Agent
from milozero.experiment.settings import TrainConfig
from milozero.experiment.status import Counters
from milozero.helpers.comm import Comm
from milozero.helpers.errors import NonFiniteError, RunError
from milozero.helpers.files import write_bytes
from milozero.helpers.logging import logger
from milozero.training.run import Training


def reset_interval(config: TrainConfig, env_kwargs: dict[str, Any]) -> int:
    """Return the iterations between fresh starts of the environments: at each checkpoint, and not much rarer.

    Between them a checkpoint holds every action, and resuming plays them all again, which takes the longer the slower
    the simulator is.
    """
    longest = environments.suite_for(config.env_id).longest_replay(env_kwargs)
    return min(config.save_frequency, max(longest // config.rollout_len, 1))


def warn_if_truncated(config: TrainConfig, env_kwargs: dict[str, Any], limit: int | None) -> str:
    """Return what to say where episodes of up to `limit` steps cannot end between two fresh starts; else nothing."""
    every = reset_interval(config, env_kwargs)
    steps = every * config.rollout_len // config.num_envs
    if not limit or steps >= limit:
        return ""
    cure = "a larger --save_frequency or fewer" if every == config.save_frequency else "fewer"
    return (
        f"each environment starts a fresh episode every {steps} steps, to be resumable, and episodes can last "
        f"{limit}: {cure} --num_envs let them end"
    )


def budget_exhausted(counters: Counters, config: TrainConfig) -> str:
    """Return what is used up of the run's steps and iterations, or nothing where it goes on."""
    if counters.timesteps >= config.num_timesteps:
        return f"num_timesteps={config.num_timesteps} reached"
    if config.num_iters is not None and counters.iteration >= config.num_iters:
        return f"num_iters={config.num_iters} reached"
    return ""


def throughput(counters: Counters, config: TrainConfig, seconds_left: float) -> dict[str, float]:
    """Return how fast the run is and when it will end, in `seconds_left` at the latest."""
    done = counters.progress(config)
    by_steps = counters.seconds * (1.0 - done) / done
    return {
        "seconds": counters.seconds,
        "steps_per_second": counters.timesteps / counters.seconds,
        "time_left": max(min(by_steps, seconds_left), 0.0),
    }


def check_param_sync(agent: Agent, comm: Comm) -> None:
    """Hold the parameters of all workers against each other.

    Raises:
        RunError: where a worker's differ, naming the ranks.
    """
    hashes = comm.allgather(agent.parameter_hash())
    if len(set(hashes)) > 1:
        odd = [rank for rank, value in enumerate(hashes) if value != hashes[0]]
        raise RunError(f"the parameters of rank {odd} differ from those of rank 0", everywhere=True)


def dump_nonfinite(run: Training, error: NonFiniteError) -> str:
    """Write down what a number that is not finite came from, on the worker that knows; return what to tell."""
    path = run.experiment.logs / "non_finite.pt"
    if error.rank in (None, run.comm.rank):
        where = {"message": str(error), "worker": run.comm.rank, "iteration": run.counters.iteration + 1}
        evidence = {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in error.evidence.items()}
        buffer = io.BytesIO()
        torch.save(where | evidence, buffer)
        try:
            write_bytes(path, buffer.getvalue())
        except OSError as problem:
            logger.warning(f"{path} not written: {problem.strerror}")
    if error.rank is not None:
        run.comm.barrier()  # nobody ends the job before it is written
    who = f"worker {run.comm.rank}: " if error.rank is None else ""
    good = run.status.saved_iteration
    kept = "there is no checkpoint yet" if good is None else f"the checkpoint of iteration {good} is kept"
    when = f"{run.experiment.env_id}, iteration {run.counters.iteration + 1}"
    return f"{when}: {who}{error}; {kept}; what it came from is in {path}"
