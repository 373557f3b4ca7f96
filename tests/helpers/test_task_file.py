"""Sections of a task file that are about one environment."""

import pytest

from helpers.errors import UserError
from helpers.settings import parse

FILE = """
meta:
  algo: ppo
hyper_parameters:
  log_std: -0.5
  epochs: 10
environments:
  Ant:
    log_std: -1
    num_envs: 32
  Hopper-v4:
    epochs: 5
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "task.yaml"
        path.write_text(text)
        return f"--config={path}"

    return to_file


def test_section_of_the_environment_stands_in_the_place_of_the_rest(write):
    config = write(FILE)
    ant, hopper = parse([config, "--env_id=Ant-v5"]), parse([config, "--env_id=Hopper"])
    assert (ant.agent.log_std, ant.agent.epochs, ant.train.num_envs) == (-1.0, 10, 32)
    assert (hopper.agent.log_std, hopper.agent.epochs, hopper.train.num_envs) == (-0.5, 10, 16)  # of v5
    assert parse([config, "--env_id=Hopper-v4"]).agent.epochs == 5
    assert parse([config, "--env_id=Ant", "--log_std=0"]).agent.log_std == 0.0  # the command line has the last word


def test_environment_that_the_file_itself_names_has_its_section(write):
    assert parse([write(FILE.replace("algo: ppo", "env_id: Ant"))]).agent.log_std == -1.0


def test_choices_of_a_sweep_win_over_a_section(write):
    config = write(FILE.replace("log_std: -0.5", "log_std: [-0.5, 0]"))
    assert parse([config, "--env_id=Ant"], {"log_std": "0"}).agent.log_std == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("num_envs", "num_envz"), "unknown parameter 'num_envz' .* 'num_envs'"),
        (("num_envs: 32", "env_id: Hopper"), "unknown parameter 'env_id'"),
        (("log_std: -1\n", "log_std: [-1, 0]\n"), "log_std is a list of choices"),
        (("Hopper-v4:\n    epochs: 5", "Hopper-v4: 5"), "environments: Hopper-v4 must hold"),
        (("Hopper-v4", "Hoper"), "environments: .*Hoper"),
        (("num_envs: 32", "log_std: 3"), "stands twice"),
    ],
)
def test_section_that_is_wrong_is_said_whatever_is_trained(write, change, message):
    for env_id in ("Ant", "CartPole"):
        with pytest.raises(UserError, match=message):
            parse([write(FILE.replace(*change)), f"--env_id={env_id}"])
