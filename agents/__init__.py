"""Algorithms, one file each, and what they share: rollouts, normalizers, networks, the optimizer."""

from milozero.agents.registry import AGENTS, Algorithm, agent_class, config_class

__all__ = ["AGENTS", "Algorithm", "agent_class", "config_class"]
