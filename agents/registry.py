"""The algorithms by name. Modules are imported at first use: agents need torch, configurations do not."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, NamedTuple

from milozero.tracking.metrics import RUN_METRICS, Metric

if TYPE_CHECKING:
    from milozero.agents.base import Agent
    from milozero.agents.policy_config import PolicyConfig


class Algorithm(NamedTuple):
    """The configuration class of an algorithm, and the class or function that makes its agent, as ``module:name``."""

    config: str
    agent: str


AGENTS = {
    "ppo": Algorithm("milozero.agents.ppo_config:RewardModelPPOConfig", "milozero.agents.ppo_agent:PPOAgent"),
    "sac": Algorithm("milozero.agents.sac_config:SACConfig", "milozero.agents.sac_agent:SACAgent"),
    "td3": Algorithm("milozero.agents.td3_config:TD3Config", "milozero.agents.td3_agent:TD3Agent"),
    "bc": Algorithm("milozero.agents.bc_config:BCConfig", "milozero.agents.bc_agent:BCAgent"),
    "gail": Algorithm("milozero.agents.adversarial_config:GAILConfig", "milozero.agents.gail_agent:GAILAgent"),
    "airl": Algorithm("milozero.agents.adversarial_config:AIRLConfig", "milozero.agents.airl_agent:AIRLAgent"),
    "dac": Algorithm("milozero.agents.dac_config:DACConfig", "milozero.agents.dac_agent:make_dac_agent"),
    "sqil": Algorithm("milozero.agents.sqil_config:SQILConfig", "milozero.agents.sqil_agent:SQILAgent"),
    "iq": Algorithm("milozero.agents.iq_config:IQConfig", "milozero.agents.iq_agent:IQAgent"),
    "dagger": Algorithm("milozero.agents.dagger_config:DAggerConfig", "milozero.agents.dagger_agent:DAggerAgent"),
}


def config_class(algo: str) -> type[PolicyConfig]:
    """Return the configuration class of an algorithm in `AGENTS`."""
    cls: type[PolicyConfig] = pkgutil.resolve_name(AGENTS[algo].config)
    return cls


def agent_class(algo: str) -> type[Agent]:
    """Return the class, or for DAC the function, that makes the agent of an algorithm in `AGENTS`."""
    cls: type[Agent] = pkgutil.resolve_name(AGENTS[algo].agent)
    return cls


def get_metrics(algo: str) -> dict[str, Metric]:
    """Return the metrics, by name, that a training run of an algorithm logs."""
    return {**RUN_METRICS, **config_class(algo).METRICS}
