"""`milozero.load_agent`, as user programs call it."""

import gymnasium
import numpy as np
import pytest

import milozero
from milozero.helpers.errors import UserError


@pytest.fixture
def folder(run, tmp_path):
    """Return the folder of a trained run's checkpoints."""
    return tmp_path / "data/checkpoints/run"


def test_loaded_agent_acts_in_a_gymnasium_environment(folder):
    agent = milozero.load_agent(str(folder))
    env = gymnasium.make(agent.env_id)
    obs, _ = env.reset(seed=0)
    for _ in range(5):
        action = agent.predict(obs)
        assert env.action_space.contains(action)
        obs, *_ = env.step(action)


def test_batch_of_observations_gives_the_action_of_each(folder):
    agent = milozero.load_agent(folder / "last.pt")
    obs = np.random.default_rng(0).standard_normal((7, agent.observation_size)).astype(np.float32)
    np.testing.assert_array_equal(agent.predict(obs), [agent.predict(row) for row in obs])


def test_iter_num_selects_a_checkpoint_of_a_folder(folder):
    assert milozero.load_agent(folder).iteration == 6
    assert milozero.load_agent(folder, iter_num="4").iteration == 4
    with pytest.raises(UserError, match="--iter_num=5: no such checkpoint"):
        milozero.load_agent(folder, iter_num="5")


def test_unknown_attribute_is_an_error():
    with pytest.raises(AttributeError, match="has no attribute 'load_agents'"):
        _ = milozero.load_agents
