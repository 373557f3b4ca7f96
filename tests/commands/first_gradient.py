"""Write Adam's first moment after one update on the whole global batch; run by test_workers.py."""

import sys

import numpy as np

import environments
from agents.agent import Setting
from agents.ppo_agent import PPOAgent, PPOConfig
from helpers.comm import make_comm
from helpers.rollout import rollout_generator

path, env_id, options = sys.argv[1:4]
comm = make_comm()
num_envs = 2 // comm.size
env = environments.make_vector_env(env_id, num_envs)
config = PPOConfig(batch_size=128 * num_envs, epochs=1, clip_norm=0.0, batch_norm_all="bn" in options)
agent = PPOAgent(config, env.observation_size, env.action_space, Setting(comm, seed=3, num_envs=num_envs))
rollouts = rollout_generator(env, agent, 128 * num_envs, 3, comm.rank * num_envs)
rollout = next(rollouts)
agent.observations.learn(rollout.obs[:-1][rollout.valid], comm)
agent.network.learn(agent.tensor(agent.observations(rollout.obs[:-1][rollout.valid])), comm)
agent.update(rollout, 0.0)
if comm.rank == 0:
    np.save(path, agent.optimizer.moment1.numpy())
