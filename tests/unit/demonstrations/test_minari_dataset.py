"""Demonstrations in Minari datasets."""

import json
import shutil

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from milozero.demonstrations import dataset as demos
from milozero.helpers.errors import UserError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Return the folder of a dataset written by Minari: three pendulum episodes."""
    folder = tmp_path_factory.mktemp("minari")
    patch = pytest.MonkeyPatch()
    patch.setenv("MINARI_DATASETS_PATH", str(folder))
    rng = np.random.default_rng(0)
    buffers = [
        EpisodeBuffer(
            id=number,
            observations=rng.normal(size=(8, 3)).astype(np.float32),
            actions=rng.uniform(-2, 2, (7, 1)).astype(np.float32),
            rewards=list(rng.normal(size=7)),
            terminations=[False] * 6 + [number == 2],
            truncations=[False] * 6 + [number != 2],
        )
        for number in range(3)
    ]
    minari.create_dataset_from_buffers(
        "pendulum/test-v0",
        buffers,
        env=gymnasium.make("Pendulum-v1"),
        algorithm_name="random",
        author="a",
        author_email="a@example.org",
        code_permalink="-",
    )
    patch.undo()
    return folder / "pendulum" / "test-v0"


def test_minari_dataset_is_read_from_disk(dataset):
    first, second, third = demos.read_demos(str(dataset), 3)
    assert (third.truncated, third.terminated) == (False, True)
    assert first.obs.shape == (8, 3)
    assert first.actions.shape == (7, 1)
    assert (first.truncated, first.terminated) == (True, False)
    assert first.metadata()["env_id"] == "Pendulum-v1"
    assert not np.array_equal(first.obs, second.obs)
    assert len(demos.read_demos(str(dataset / "data"), 0)) == 3
    with pytest.raises(UserError, match="contains 3"):
        demos.read_demos(str(dataset), 4)


@pytest.mark.parametrize("file", ["metadata.json", "main_data.hdf5"])
def test_damaged_minari_dataset_is_a_user_error(dataset, tmp_path, file):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / "data" / file).write_bytes((copy / "data" / file).read_bytes()[:100])
    with pytest.raises(UserError, match="cannot read"):
        demos.read_demos(str(copy), 0)


@pytest.mark.parametrize("value", [..., None, ""])
@pytest.mark.parametrize("space", ["observation_space", "action_space"])
def test_minari_dataset_runs_no_code(dataset, tmp_path, monkeypatch, space, value):
    """If a space is missing, Minari itself would make the environment that the dataset names."""
    path = shutil.copytree(dataset, tmp_path / "copy") / "data/metadata.json"
    (tmp_path / "minari_payload.py").write_text("open(__file__ + '.ran', 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    metadata = json.loads(path.read_text())
    spec = json.loads(metadata["env_spec"]) | {"entry_point": "minari_payload:Env"}
    metadata |= {"env_spec": json.dumps(spec), "eval_env_spec": json.dumps(spec)}
    path.write_text(json.dumps(metadata))
    assert len(demos.read_demos(str(tmp_path / "copy"), 0)) == 3
    metadata.pop(space)
    path.write_text(json.dumps(metadata if value is ... else metadata | {space: value}))
    with pytest.raises(UserError, match=f"no {space}"):
        demos.read_demos(str(tmp_path / "copy"), 0)
    assert not (tmp_path / "minari_payload.py.ran").exists()


def test_minari_dataset_with_dictionary_observations_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    parts = spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,)), "b": spaces.Box(-1.0, 1.0, (1,))})
    observations = {"a": np.zeros((4, 2), np.float32), "b": np.zeros((4, 1), np.float32)}
    ends = {"terminations": [False] * 3, "truncations": [False, False, True], "rewards": [0.0] * 3}
    buffer = EpisodeBuffer(id=0, observations=observations, actions=np.zeros((3, 1), np.float32), **ends)
    minari.create_dataset_from_buffers(
        "parts/test-v0",
        [buffer],
        observation_space=parts,
        action_space=spaces.Box(-1.0, 1.0, (1,)),
        algorithm_name="a",
        author="a",
        author_email="a@example.org",
        code_permalink="-",
    )
    with pytest.raises(UserError, match="dictionary or tuple observations"):
        demos.read_demos(str(tmp_path / "parts/test-v0"), 0)


def test_minari_dataset_with_a_nan_is_rejected(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    with h5py.File(copy / "data/main_data.hdf5", "a") as file:
        file["episode_1/rewards"][0] = np.nan
    assert len(demos.read_demos(str(copy), 1)) == 1
    with pytest.raises(UserError, match=r"episode 1 of .* contains a NaN"):
        demos.read_demos(str(copy), 2)
