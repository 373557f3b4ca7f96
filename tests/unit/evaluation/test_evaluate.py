"""What shows how far an evaluation is."""

import io
import re
import sys

import gymnasium
import pytest
import rich

from milozero.evaluation.evaluate import evaluate_checkpoint
from milozero.experiment.settings import EvalConfig
from milozero.helpers.comm import Comm


class Pushing:
    """An agent that ends CartPole's episode soon."""

    def predict(self, obs):
        return 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """Play an episode; returns what an output shows of it."""

    def play(output, folder):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", output)
        make, config = (lambda mode: gymnasium.make("CartPole-v1")), EvalConfig(num_trajs=1)
        evaluate_checkpoint(Pushing(), make, config, 0, folder, {}, Comm())
        return output.getvalue()

    return play


def test_terminal_shows_how_far_an_episode_is(shown, tmp_path):
    rich.get_console()  # made before, of an output that is no terminal
    told = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", shown(Terminal(), tmp_path))
    assert re.search(r"episode 0 ━+ +-1/500 steps", told)


def test_file_has_the_outcome_alone(shown, tmp_path):
    told = shown(io.StringIO(), tmp_path)
    assert told.startswith("episode   0: return ")
    assert len(told.splitlines()) == 1
