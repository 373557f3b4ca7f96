"""MiloZero: reinforcement and imitation learning on CPUs, from one workstation to a SLURM cluster.

agent = milozero.load_agent("data/checkpoints/NAME")
action = agent.predict(obs)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milozero.evaluation.loading import LoadedAgent, load_agent

__all__ = ["LoadedAgent", "load_agent"]


def __getattr__(name: str) -> Any:
    """Import public names lazily, so that parsing a command line does not import torch."""
    if name not in __all__:
        raise AttributeError(f"module 'milozero' has no attribute '{name}'")
    from milozero.evaluation import loading

    return getattr(loading, name)
