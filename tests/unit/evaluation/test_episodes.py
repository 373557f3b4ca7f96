import numpy as np
import pytest

from milozero.evaluation.episodes import run_episode
from milozero.helpers.errors import NonFiniteError
from tests.support import user_envs


class Still:
    def predict(self, obs):
        return np.zeros(2)


def test_episode_holds_one_more_observation_than_actions():
    episode = run_episode(Still(), user_envs.Bounded(), seed=0)
    assert (episode.obs.shape, episode.actions.shape, episode.rewards.shape) == ((11, 2), (10, 2), (10,))
    assert episode.terminated


def test_agent_acts_on_each_observation_except_the_last():
    agent, seen = Still(), []
    agent.predict = lambda obs: seen.append(obs) or np.zeros(2)
    episode = run_episode(agent, user_envs.Bounded(), seed=0)
    assert len(np.unique(episode.obs, axis=0)) == 11
    np.testing.assert_array_equal(seen, episode.obs[:-1])


def test_episode_is_kept_if_the_environment_reuses_its_arrays():
    agent = Still()
    agent.predict = lambda obs: np.full(2, 0.5)
    episode = run_episode(agent, user_envs.SameArray(), seed=0)
    np.testing.assert_array_equal(episode.obs[:, 0], np.arange(11))
    np.testing.assert_array_equal(episode.actions, np.full((10, 2), 0.5))


@pytest.mark.parametrize(("part", "named"), [(0, "observation"), (1, "reward")])
def test_non_finite_number_is_reported_with_its_step(part, named):
    env = user_envs.Bounded()
    step = env.step

    def breaks(action):
        parts = list(step(action))
        parts[part] = parts[part] * np.nan if env.left == 6 else parts[part]
        return tuple(parts)

    env.step = breaks
    where = "step 4" if part == 0 else "step 3"
    with pytest.raises(NonFiniteError, match=f"infinite {named} .evaluation episode with seed 7, {where}"):
        run_episode(Still(), env, seed=7)


def test_non_finite_action_is_reported():
    agent = Still()
    agent.predict = lambda obs: np.full(2, np.nan)
    with pytest.raises(NonFiniteError, match="infinite action"):
        run_episode(agent, user_envs.Bounded(), seed=0)
