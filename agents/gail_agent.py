"""Generative adversarial imitation learning (GAIL, Ho & Ermon 2016): PPO on the reward of a discriminator.

The discriminator classifies steps as the expert's or the policy's, and rewards the policy for steps that resemble the
expert's. The environment's reward is logged, but not learned from.
"""

from __future__ import annotations

from milozero.agents.adversarial import AdversarialAgent
from milozero.agents.adversarial_config import GAILConfig


class GAILAgent(AdversarialAgent):
    """A policy trained by PPO to be indistinguishable from the expert."""

    Config = GAILConfig
    config: GAILConfig
