"""Checks for workers whose parameters differ."""

import re

import numpy as np
import pytest

from milozero.agents.adversarial_config import AIRLConfig
from milozero.agents.airl_agent import AIRLAgent
from milozero.agents.base import AgentContext
from milozero.helpers.errors import RunError
from milozero.training.checks import check_param_sync
from tests.support import steps
from tests.support.fakes import on_workers


def make_agent(comm):
    """Return an agent with everything that workers share: BC's and PPO's state, a discriminator, batch norm."""
    config = AIRLConfig(
        p_perception_stack="mlp_8", v_perception_stack="mlp_8", batch_size=16, d_batch_size=16, batch_norm_all=True
    )
    context = AgentContext(comm, num_envs=steps.N, demos=[steps.expert()])
    return AIRLAgent(config, steps.SIZE, steps.BOX, context)


def perturb(tensor):
    tensor.view(-1)[-1] += 1e-6


CHANGES = {
    "optimizer": lambda agent: perturb(agent.optimizer.params.vector),
    "optimizer ": lambda agent: perturb(agent.optimizer.moment2),
    "optimizer  ": lambda agent: setattr(agent.optimizer, "steps", 1),
    "d_optimizer": lambda agent: perturb(agent.d_optimizer.moment1),
    "buffers": lambda agent: perturb(dict(agent.network.named_buffers())["value.1.var"]),
    "d_buffers": lambda agent: perturb(dict(agent.discriminator.named_buffers())["potential.stack.1.mean"]),
    "observations": lambda agent: setattr(agent.obs_normalizer.moments, "count", 1.0),
    "rewards": lambda agent: setattr(agent.reward_scaler.moments, "mean", np.array(1e-300)),
    "mean_log_prob": lambda agent: setattr(agent, "mean_log_prob", -1e-9),
}


@pytest.mark.parametrize("name", CHANGES)
def test_workers_whose_agents_differ_are_named_with_what_differs(name):
    def work(comm):
        agent = make_agent(comm)
        agent.rng.random()  # streams and running returns belong to one worker
        agent.reward_scaler.returns += comm.rank
        check_param_sync(agent, comm)
        if comm.rank == 2:
            CHANGES[name](agent)
        with pytest.raises(RunError, match=re.escape(f"{name.strip()} of ranks [2] differ from rank 0")):
            check_param_sync(agent, comm)
        return True

    assert on_workers(3, work) == [True, True, True]


def test_agents_of_workers_stay_equal_through_updates():
    def work(comm):
        agent = make_agent(comm)
        for k in range(3):
            agent.update(steps.rollout(10 * k + comm.rank, [(3, 1)] * comm.rank), 0.0)
            check_param_sync(agent, comm)
        return True

    assert on_workers(2, work) == [True, True]
