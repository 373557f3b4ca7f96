"""Users' modules: which names import them, and from where."""

import sys

import pytest

from milozero import environments
from milozero.helpers.errors import UserError

CODE = """
import pathlib
import gymnasium
pathlib.Path(__file__).with_suffix(".ran").touch()
gymnasium.register("Payload-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=9)
"""


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Put a folder on the import path, with `payload` in it and in its data folder; forget both afterwards."""
    (tmp_path / "data/run").mkdir(parents=True)
    for path in (tmp_path, tmp_path / "data/run"):
        (path / "payload.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    environments.registry.get_suite("gymnasium").gymnasium.registry.pop("Payload-v0", None)


def ran(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ran"))


@pytest.mark.parametrize("call", [environments.resolve, environments.make_env])
def test_id_alone_imports_nothing(folder, call):
    with pytest.raises(UserError, match="'payload', which is imported only if you name it: add --env_module=payload"):
        call("payload:Payload-v0")
    assert ran(folder) == []


@pytest.mark.parametrize("name", ["payload:Payload", "payload:Payload-v0"])
def test_module_that_the_user_names_is_imported(folder, name):
    environments.import_module_of(name, f"--env_id={name}", "data")
    assert ran(folder) == ["payload.ran"]
    assert environments.resolve(name) == "payload:Payload-v0"
    assert environments.make_env("payload:Payload-v0").spec.max_episode_steps == 9


def place(folder, where, on_path=""):
    """Write a payload to `where`, and put the folder `on_path` on the import path."""
    (folder / where).parent.mkdir(parents=True, exist_ok=True)
    (folder / where).write_text(CODE)
    if on_path:
        sys.path.insert(0, str(folder / on_path))


@pytest.mark.parametrize(
    ("module", "where", "on_path"),
    [
        ("data.run.payload", "data/run/payload.py", ""),
        ("data.package", "data/package/__init__.py", ""),
        ("data.package.inner", "data/package/__init__.py", ""),
        ("beside", "data/run/beside.py", "data/run"),
        ("beside", "data/run/beside.py", "data/../data/run"),
        ("beside", "data/run/beside/__init__.py", "data/run"),
    ],
)
@pytest.mark.parametrize("data", ["data", "./data", "linked", "absolute"])
def test_nothing_is_imported_from_the_data_folder(folder, monkeypatch, module, where, on_path, data):
    monkeypatch.setattr(sys, "path", list(sys.path))
    place(folder, where, on_path)
    (folder / "linked").symlink_to("data")
    data = str(folder / "data") if data == "absolute" else data
    with pytest.raises(UserError, match="nothing is imported from there"):
        environments.import_module(module, f"--env_module={module}", data)
    assert ran(folder) == []


def test_link_into_the_data_folder_is_not_imported(folder):
    (folder / "linked.py").symlink_to("data/run/payload.py")
    with pytest.raises(UserError, match="nothing is imported from there"):
        environments.import_module("linked", "--env_module=linked", "data")
    assert ran(folder) == []


def test_neighbor_of_the_data_folder_is_imported(folder):
    place(folder, "data_envs/payload.py")
    environments.import_module("data_envs.payload", "--env_module=data_envs.payload", "data")
    assert ran(folder) == ["data_envs/payload.ran"]
