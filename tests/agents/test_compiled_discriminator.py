"""A discriminator whose steps are compiled, gradient of a gradient and all, against one whose are not."""

import numpy as np
import pytest
from steps import BOX, SIZE, N, expert, rollout

from agents.agent import Setting
from agents.airl_agent import AIRLAgent, AIRLConfig
from helpers.comm import Comm
from helpers.demos import ImitationConfig

NETWORKS = {"p_perception_stack": "mlp_8", "v_perception_stack": "mlp_8", "batch_size": 16, "epochs": 1}


@pytest.mark.command  # compiling takes long
def test_compiled_discriminator_learns_what_it_learns_otherwise():
    def make(compile):
        imitation = ImitationConfig(d_perception_stack="mlp_16")
        setting = Setting(
            Comm(), seed=1, num_envs=N, demos=[expert(terminated=True)], imitation=imitation, compile=compile
        )
        config = AIRLConfig(**NETWORKS, d_batch_size=16, d_steps=2, d_batch_norm=True, d_penalty_coefficient=10)
        return AIRLAgent(config, SIZE, BOX, setting)

    plain, compiled = make(False), make(True)
    for k in range(3):
        told, also = (agent.update(rollout(k, [(3, 1)]), 0.0) for agent in (plain, compiled))
        assert also == pytest.approx(told, rel=2e-3, abs=2e-4, nan_ok=True)
    inputs, _ = plain.seen(rollout(9))
    np.testing.assert_allclose(
        compiled.logits(inputs), plain.logits(inputs), atol=2e-2
    )  # single precision, over 96 steps
