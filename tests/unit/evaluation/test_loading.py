"""Agents that other runs learn from."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from gymnasium.spaces import Box, Discrete

from milozero.evaluation.loading import LoadedAgent, Teachers
from milozero.helpers.errors import UserError

FLAGS = [("init", "--init_from"), ("expert", "--expert_model"), ("reward", "--reward_path")]


@pytest.mark.parametrize(("name", "flag"), FLAGS)
@pytest.mark.parametrize(("size", "num_actions"), [(4, 3), (5, 2), (4, 2)])
def test_spaces_of_a_teacher_must_be_those_of_the_environment(name, flag, size, num_actions):
    loaded = LoadedAgent(None, Path("data/checkpoints/x/last.pt"), None, "A-v0", {}, Discrete(2), 4, 1, 0.0, 0.0)
    teachers = Teachers(**{name: loaded})
    env = SimpleNamespace(observation_size=size, action_space=Discrete(num_actions))
    if (size, num_actions) == (4, 2):
        teachers.check_spaces(env)
    else:
        with pytest.raises(UserError, match=f"{flag}=data/checkpoints/x: trained on A-v0, with 4 observations"):
            teachers.check_spaces(env)


@pytest.mark.parametrize(("name", "flag"), FLAGS)
def test_bounds_of_a_teachers_actions_must_be_those_of_the_environment(name, flag):
    space = Box(-1.0, 1.0, (2,))
    loaded = LoadedAgent(None, Path("data/checkpoints/x/last.pt"), None, "A-v0", {}, space, 4, 1, 0.0, 0.0)
    teachers = Teachers(**{name: loaded})
    teachers.check_spaces(SimpleNamespace(observation_size=4, action_space=Box(-1.0, 1.0, (2,))))
    with pytest.raises(UserError, match=rf"{flag}=.*actions Box\(-1.0, 1.0, .* actions Box\(-2.0, 1.0,"):
        teachers.check_spaces(SimpleNamespace(observation_size=4, action_space=Box(-2.0, 1.0, (2,))))
