"""The settings of a study and of its launch."""

import pytest

from milozero.helpers.config.params import build
from milozero.studies.config import LaunchConfig, StudyConfig


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        *((StudyConfig, name) for name in ("config", "demo_dir", "data_dir")),
        *((LaunchConfig, name) for name in ("cluster", "docker_image")),
    ],
)
def test_tilde_in_a_path_is_the_home_folder(cls, name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of me")
    assert getattr(build(cls, {name: "~/x"}, {}, ""), name) == "/home/of me/x"
