"""The algorithms, by name; each is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.agent import Agent

AGENTS = {
    "ppo": "agents.ppo_agent:PPOAgent",
    "bc": "agents.bc_agent:BCAgent",
    "gail": "agents.gail_agent:GAILAgent",
    "airl": "agents.airl_agent:AIRLAgent",
    "dagger": "agents.dagger_agent:DAggerAgent",
}


def agent_class(algo: str) -> type[Agent]:
    """Return the class of an algorithm in `AGENTS`."""
    module, _, name = AGENTS[algo].partition(":")
    cls: type[Agent] = getattr(importlib.import_module(module), name)
    return cls
