"""Adam's first moment after one update on the whole global batch, with one worker or several.

PYTHONPATH=. mpiexec -n 2 python tests/support/first_gradient.py gradients.npz
"""

import sys

import numpy as np

from milozero import environments
from milozero.agents.base import AgentContext
from milozero.agents.ppo_agent import PPOAgent
from milozero.agents.ppo_config import PPOConfig
from milozero.agents.rollout import rollout_generator
from milozero.helpers.comm import Comm, make_comm

CASES = {"Hopper-v5": ("Hopper-v5", False), "batch norm": ("Hopper-v5", True), "CartPole-v1": ("CartPole-v1", False)}


def first_gradients(comm: Comm) -> dict[str, np.ndarray]:
    """Return the gradients (P,) by case, for two environments distributed over the workers."""
    return {name: _first_gradient(comm, *case) for name, case in CASES.items()}


def _first_gradient(comm: Comm, env_id: str, batch_norm: bool) -> np.ndarray:
    num_envs = 2 // comm.size
    env = environments.make_vector_env(env_id, num_envs)
    config = PPOConfig(batch_size=128 * num_envs, epochs=1, clip_norm=0.0, batch_norm_all=batch_norm)
    agent = PPOAgent(config, env.observation_size, env.policy_space, AgentContext(comm, seed=3, num_envs=num_envs))
    rollout = next(rollout_generator(env, agent, 128 * num_envs, 3, comm.rank * num_envs))
    agent.obs_normalizer.update(rollout.obs[:-1][rollout.mask], comm)
    agent.network.update_batch_norm(agent.to_tensor(agent.obs_normalizer(rollout.obs[:-1][rollout.mask])), comm)
    agent.update(rollout, 0.0)
    env.close()
    return agent.optimizer.moment1.numpy()


if __name__ == "__main__":
    workers = make_comm()
    gradients = first_gradients(workers)
    if workers.rank == 0:
        np.savez(sys.argv[1], **gradients)
