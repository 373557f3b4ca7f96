"""The algorithms, by name; each is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from milozero.tracking.metrics import RUN_METRICS, Metric

if TYPE_CHECKING:
    from milozero.agents.base import Agent

AGENTS = {
    "ppo": "milozero.agents.ppo_agent:PPOAgent",
    "bc": "milozero.agents.bc_agent:BCAgent",
    "gail": "milozero.agents.gail_agent:GAILAgent",
    "airl": "milozero.agents.airl_agent:AIRLAgent",
    "dagger": "milozero.agents.dagger_agent:DAggerAgent",
}


def agent_class(algo: str) -> type[Agent]:
    """Return the class of an algorithm in `AGENTS`."""
    module, _, name = AGENTS[algo].partition(":")
    cls: type[Agent] = getattr(importlib.import_module(module), name)
    return cls


def get_metrics(algo: str) -> dict[str, Metric]:
    """Return name → metric of all that a training run with an algorithm logs."""
    return {**RUN_METRICS, **agent_class(algo).METRICS}
