"""Algorithms: one file each; what they share: rollouts, normalizers, networks, the optimizer."""

from milozero.agents.registry import AGENTS, agent_class

__all__ = ["AGENTS", "agent_class"]
