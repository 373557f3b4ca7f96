"""Reading, writing and checking demonstrations in each file format."""

import json
import pickle
import shutil
import zlib
from pathlib import Path

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from milozero.demonstrations import dataset as demos
from milozero.demonstrations import table
from milozero.demonstrations.dataset import ImitationConfig
from milozero.demonstrations.formats import hdf5
from milozero.demonstrations.formats.hdf5 import KEYS
from milozero.helpers.errors import UserError


def episode(length=4, truncated=True):
    rng = np.random.default_rng(length)
    obs, actions = rng.normal(size=(length + 1, 3)), rng.normal(size=(length, 2))
    return demos.Episode(obs, actions, np.arange(length, dtype=float), not truncated, truncated)


def test_demo_round_trip_keeps_the_documented_layout(tmp_path):
    path = tmp_path / "episode.h5"
    attributes = {"env_id": "X-v0", "seed": 3, "eval_stochastic": True}
    demos.write_demo(path, episode(), attributes)
    with h5py.File(path) as file:
        assert set(KEYS) | {"terminateds", "truncateds"} == set(file)
        assert file["ep_lens"][0] == 4
        assert file["ep_env_rets"][0] == 6.0
        assert file.attrs["env_id"] == "X-v0"
        assert file["dones1"][-1]
    restored = demos.read_demo(path)
    np.testing.assert_allclose(restored.obs, episode().obs, rtol=1e-6)
    assert restored.truncated
    assert not restored.terminated
    assert restored.metadata().items() >= attributes.items()


def test_demos_are_read_in_name_order_and_too_few_are_an_error(tmp_path):
    for length in (5, 2, 3):
        demos.write_demo(tmp_path / f"{length}.h5", episode(length), {})
    assert [len(e) for e in demos.read_demos(str(tmp_path), 2)] == [2, 3]
    assert len(demos.read_demos(str(tmp_path), 0)) == 3
    with pytest.raises(UserError, match="contains 3"):
        demos.read_demos(str(tmp_path), 4)


def test_damaged_demo_is_a_user_error(tmp_path):
    path = tmp_path / "a.h5"
    demos.write_demo(path, episode(), {})
    with h5py.File(path, "a") as file:
        file["env_rews"][0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        demos.read_demo(path)
    with h5py.File(path, "a") as file:
        del file["acs"]
    with pytest.raises(UserError, match="lacks acs"):
        demos.read_demo(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="cannot read"):
        demos.read_demo(path)
    with pytest.raises(UserError, match="no such folder"):
        demos.read_demos(str(tmp_path / "no"), 1)


@pytest.mark.parametrize(
    ("field", "index", "value", "message"),
    [
        ("obs1", (1, 0), np.nan, "NaN.* in obs1"),
        ("ep_env_rets", 0, np.inf, "in ep_env_rets"),
        ("ep_lens", 0, 3, "has 4 steps, but ep_lens is 3"),
        ("dones1", 1, True, r"continues after the end of an episode, dones1\[1\]"),
        ("truncateds", 2, True, r"truncateds\[2\]"),
    ],
)
def test_inconsistent_demo_is_rejected(tmp_path, field, index, value, message):
    path = tmp_path / "a.h5"
    demos.write_demo(path, episode(), {})
    with h5py.File(path, "a") as file:
        file[field][index] = value
    with pytest.raises(UserError, match=message):
        demos.read_demo(path)


@pytest.mark.parametrize("fields", [KEYS, ["env_rews"], ["dones1"], ["obs0"], ["acs"]])
def test_demo_with_empty_or_shorter_arrays_is_rejected(tmp_path, fields):
    path = tmp_path / "a.h5"
    demos.write_demo(path, episode(), {})
    with h5py.File(path, "a") as file:
        for field in {*fields} - {"ep_lens", "ep_env_rets"}:
            values = file[field][:0]
            del file[field]
            file[field] = values
    with pytest.raises(UserError, match="is empty, or its arrays differ in length"):
        demos.read_demo(path)


@pytest.mark.parametrize(("rows", "chunk"), [(4, 4), (4, 100), (100, 10)])
def test_size_limit_covers_the_array_and_its_chunks(tmp_path, monkeypatch, rows, chunk):
    values = np.arange(rows * 3.0).reshape(rows, 3)
    size = max(rows, chunk) * 3 * 8  # bytes; HDF5 decompresses whole chunks
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("acs", data=values, chunks=(chunk, 3), maxshape=(None, 3))
        monkeypatch.setattr(hdf5, "MAX_FIELD_BYTES", size)
        np.testing.assert_array_equal(hdf5.read_field(file, "acs"), values)
        monkeypatch.setattr(hdf5, "MAX_FIELD_BYTES", size - 1)
        with pytest.raises(ValueError, match="acs is larger than"):
            hdf5.read_field(file, "acs")


def test_demo_of_another_environment_is_rejected():
    with pytest.raises(UserError, match="shapes"):
        demos.check_compatible([episode()], "folder", 11, spaces.Box(-1.0, 1.0, (3,)))


def discrete_episode(*actions):
    return demos.Episode(np.zeros((len(actions) + 1, 3)), np.array(actions), np.ones(len(actions)), False, True)


@pytest.mark.parametrize("actions", [(4, 7), (1, 3), (4.5, 5.0)])
def test_discrete_action_out_of_range_is_rejected(actions):
    space = spaces.Discrete(3, start=4)
    demos.check_compatible([discrete_episode(4, 5, 6)], "folder", 3, space)
    with pytest.raises(UserError, match="must be integers from 4 to 6"):
        demos.check_compatible([discrete_episode(*actions)], "folder", 3, space)


def test_transitions_of_discrete_actions_are_whole_numbers():
    chosen = demos.subsample_transitions([discrete_episode(0, 2, 1)], 1, np.random.default_rng(0))
    assert chosen.actions.tolist() == [0, 2, 1]
    assert chosen.actions.dtype == np.int64


def test_checksum_depends_on_content_and_termination():
    assert demos.checksum([episode(4)]) == demos.checksum([episode(4)])
    assert demos.checksum([episode(4)]) != demos.checksum([episode(5)])
    assert demos.checksum([episode(4)]) != demos.checksum([episode(4, truncated=False)])


def test_checksum_is_the_crc_32_of_the_concatenated_bytes():
    both = [episode(4), episode(3, truncated=False)]
    content = b"".join(e.obs.tobytes() + e.actions.tobytes() + bytes([e.terminated]) for e in both)
    assert demos.checksum(both) == f"{zlib.crc32(content):08x}"


def test_file_without_end_flags_has_neither_termination_nor_truncation(tmp_path):
    path = tmp_path / "episode.h5"
    demos.write_demo(path, episode(truncated=False), {})
    assert demos.read_demo(path).terminated
    with h5py.File(path, "a") as file:
        del file["terminateds"], file["truncateds"]
    restored = demos.read_demo(path)
    assert (restored.terminated, restored.truncated) == (False, False)


def save_npz(path, episodes):
    """Write concatenated episodes with the keys of the HDF5 files."""
    fields = {
        "obs0": [e.obs[:-1] for e in episodes],
        "obs1": [e.obs[1:] for e in episodes],
        "acs": [e.actions for e in episodes],
        "env_rews": [e.rewards for e in episodes],
        "dones1": [np.arange(len(e)) == len(e) - 1 for e in episodes],
        "terminateds": [(np.arange(len(e)) == len(e) - 1) & e.terminated for e in episodes],
    }
    arrays = {name: np.concatenate(parts) for name, parts in fields.items()}
    np.savez(path, **arrays, ep_lens=[len(e) for e in episodes])


def test_npz_round_trip(tmp_path):
    path = tmp_path / "expert.npz"
    save_npz(path, [episode(3), episode(5, truncated=False)])
    first, second = demos.read_demos(str(path), 0)
    np.testing.assert_array_equal(first.obs, episode(3).obs)
    np.testing.assert_array_equal(second.actions, episode(5).actions)
    assert (first.return_, second.return_) == (3.0, 10.0)
    assert (first.terminated, second.terminated) == (False, True)
    assert len(demos.read_demos(str(path), 1)) == 1
    with pytest.raises(UserError, match="contains 2"):
        demos.read_demos(str(path), 3)


def test_baselines_npz_is_read_without_the_last_steps(tmp_path):
    path = tmp_path / "deterministic.npz"
    obs, acs, rews = np.arange(24.0).reshape(2, 4, 3), np.arange(16.0).reshape(2, 4, 2), np.ones((2, 4))
    np.savez(path, obs=obs, acs=acs, rews=rews, ep_rets=rews.sum(1))
    episodes = demos.read_demos(str(path), 0)
    assert [len(e) for e in episodes] == [3, 3]
    np.testing.assert_array_equal(episodes[1].obs, obs[1])
    np.testing.assert_array_equal(episodes[1].actions, acs[1, :3])


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("obs", (3, 4, 3)),
        ("obs", (2, 5, 3)),
        ("obs", (2, 4)),
        ("acs", (3, 4, 2)),
        ("acs", (2, 3, 2)),
        ("rews", (3, 4)),
        ("rews", (2, 3)),
        ("rews", (2, 5)),
        ("rews", (2, 4, 1)),
    ],
)
def test_baselines_npz_with_inconsistent_shapes_is_rejected(tmp_path, field, shape):
    path = tmp_path / "deterministic.npz"
    arrays = {"obs": np.ones((2, 4, 3)), "acs": np.ones((2, 4, 2)), "rews": np.ones((2, 4))}
    np.savez(path, **arrays | {field: np.ones(shape)})
    with pytest.raises(UserError, match="differ in the number of episodes or steps"):
        demos.read_demos(str(path), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("acs"), "have neither"),
        (lambda d: d.update(ep_lens=np.array([3, 4])), "does not add up"),
        (lambda d: d.update(ep_lens=np.array([9, -1])), "does not add up"),
        (lambda d: d.update(obs1=np.zeros((8, 2))), "obs0 and obs1 have different shapes"),
        (lambda d: d.update(obs0=np.full((8, 3), np.nan)), "NaN"),
        (lambda d: d.update(acs=np.array(["a"] * 8)), "acs does not contain rows of numbers"),
        (lambda d: d.update(acs=np.float64(1)), "acs does not contain rows of numbers"),
        (lambda d: d.update(acs=np.array([{}] * 8, object)), "cannot read"),
        (lambda d: [d.update({k: v[:0]}) for k, v in list(d.items())], "no demonstrations found"),
    ],
)
def test_invalid_npz_is_a_user_error(tmp_path, change, message):
    path = tmp_path / "expert.npz"
    save_npz(path, [episode(3), episode(5)])
    data = dict(np.load(path))
    change(data)
    np.savez(path, **data)
    with pytest.raises(UserError, match=message):
        demos.read_demos(str(path), 0)


@pytest.mark.parametrize("content", [b"", b"PK", pickle.dumps([1]), None])
def test_damaged_npz_is_a_user_error(tmp_path, content):
    path = tmp_path / "expert.npz"
    save_npz(path, [episode(300)])
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(UserError, match="cannot read"):
        demos.read_demos(str(path), 0)


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


@pytest.mark.parametrize("name", ["notes.txt", "folder"])
def test_path_without_demonstrations_is_a_user_error(tmp_path, name):
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"HDF5|no demonstrations"):
        demos.read_demos(str(tmp_path / name), 0)


def test_inaccessible_path_is_a_one_line_error(monkeypatch):
    def refuse(self, **_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(UserError, match=r"^--expert_path=/closed/expert: Permission denied$"):
        demos.read_demos("/closed/expert", 0)


def test_subsampling_keeps_every_nth_step_from_a_random_offset():
    episodes = [episode(100, truncated=False), episode(90)]
    starts = set()
    for seed in range(200):
        chosen = demos.subsample_transitions(episodes, 20, np.random.default_rng(seed))
        assert len(chosen) in (9, 10)
        start = next(i for i in range(100) if np.allclose(episodes[0].obs[i], chosen.obs[0], atol=1e-6))
        starts.add(start)
        np.testing.assert_allclose(chosen.obs[:5], episodes[0].obs[start:100:20], rtol=1e-6)
        np.testing.assert_allclose(chosen.next_obs[:5], episodes[0].obs[start + 1 : 101 : 20], rtol=1e-6)
        np.testing.assert_allclose(chosen.actions[:5], episodes[0].actions[start::20], rtol=1e-6)
        assert list(np.flatnonzero(chosen.terminated)) == ([4] if start == 19 else [])
    assert starts == set(range(20))


def test_subsampling_by_1_keeps_all_steps():
    episodes = [episode(4, truncated=False), episode(3)]
    chosen = demos.subsample_transitions(episodes, 1, np.random.default_rng(0))
    assert len(chosen) == 7
    assert list(chosen.episodes) == [0, 0, 0, 0, 1, 1, 1]
    assert list(chosen.terminated) == [False, False, False, True, False, False, False]
    np.testing.assert_allclose(chosen.obs[4:], episodes[1].obs[:-1], rtol=1e-6)
    same = demos.subsample_transitions(episodes, 3, np.random.default_rng(5))
    np.testing.assert_array_equal(same.obs, demos.subsample_transitions(episodes, 3, np.random.default_rng(5)).obs)


def test_episode_shorter_than_the_subsampling_yields_one_step():
    assert len(demos.subsample_transitions([episode(3)] * 5, 20, np.random.default_rng(0))) == 5


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"), [(16, 0.1, 2), (4, 0.1, 1), (2, 0.9, 1), (10, 0.9, 9), (3, 0.0, 0)]
)
def test_validation_holds_out_whole_episodes(count, fraction, held_out):
    episodes = [episode(20 + number) for number in range(count)]
    chosen = demos.subsample_transitions(episodes, 3, np.random.default_rng(0))
    training, validation = demos.split_transitions(chosen, fraction, np.random.default_rng(1))
    assert sorted([*training, *validation]) == list(range(len(chosen)))
    unseen = set(chosen.episodes[validation])
    assert len(unseen) == held_out
    assert unseen.isdisjoint(chosen.episodes[training])
    assert list(training) != sorted(training)


@pytest.mark.parametrize(("length", "fraction", "blocks"), [(200, 0.1, 1), (200, 0.34, 3), (7, 0.1, 1)])
def test_validation_of_a_single_episode_holds_out_blocks_of_consecutive_steps(length, fraction, blocks):
    chosen = demos.subsample_transitions([episode(length)], 1, np.random.default_rng(0))
    training, validation = demos.split_transitions(chosen, fraction, np.random.default_rng(1))
    assert sorted([*training, *validation]) == list(range(length))
    size = max(length // 10, 1)
    assert len(validation) == blocks * size
    assert set(validation // size).isdisjoint(training // size)


def test_table_shows_each_episode_and_a_summary(tmp_path, capsys):
    for number, length in enumerate((5, 2)):
        metadata = {"env_id": "X-v0", "seed": number + 70, "mujoco_version": "3.17.0", "teacher": "long " * 40}
        demos.write_demo(tmp_path / f"{number}.h5", episode(length), metadata)
    table.show(ImitationConfig(expert_path=str(tmp_path)))
    output = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines()]
    assert ["0", "5", "10.0", "2.000", "time limit", "70"] in rows
    assert ["1", "2", "1.0", "0.500", "time limit", "71"] in rows
    assert "│      5 │   10.0 │    2.000 │ time limit │ 70   │" in output  # numbers are aligned to the right
    assert "episodes:      2, 7 steps" in output
    assert "return:        5.5 ± 4.5, 1.0 to 10.0" in output
    assert "env_id:        X-v0" in output
    assert "mujoco_version: 3.17.0" in output
    assert f"teacher:       {'long ' * 40}" in output  # on one line, for grep
    assert "seed:" not in output


def test_progress_bar_is_on_stderr(tmp_path, capsys, monkeypatch):
    consoles = []

    def track(numbers, *_, console, **__):
        consoles.append(console)
        return numbers

    monkeypatch.setattr("rich.progress.track", track)
    demos.write_demo(tmp_path / "a.h5", episode(), {})
    table.show(ImitationConfig(expert_path=str(tmp_path)))
    assert "episodes:" in capsys.readouterr().out
    (console,) = consoles
    assert console.stderr


def test_metadata_is_shown_verbatim_and_damaged_metadata_is_a_user_error(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "[red]"
    folder.mkdir()
    demos.write_demo(folder / "a.h5", episode(3), {"env_id": "[/x]", "seed": 1})
    table.show(ImitationConfig(expert_path=str(folder)))
    output = capsys.readouterr().out
    assert "[/x]" in output
    assert "[red]" in output

    def broken(_):
        raise RuntimeError("unable to read the attribute")

    monkeypatch.setattr("milozero.demonstrations.formats.hdf5.read_metadata", broken)
    with pytest.raises(UserError, match="unable to read the attribute"):
        table.show(ImitationConfig(expert_path=str(folder)))


def test_long_table_is_truncated_with_a_count(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(table, "MAX_ROWS", 1)
    for number in range(3):
        demos.write_demo(tmp_path / f"{number}.h5", episode(4), {})
    table.show(ImitationConfig(expert_path=str(tmp_path), num_demos=3))
    assert "... and 2 more" in capsys.readouterr().out
