"""Demonstrations in HDF5 files."""

import h5py
import numpy as np
import pytest

from milozero.demonstrations import dataset as demos
from milozero.demonstrations.formats import hdf5
from milozero.demonstrations.formats.hdf5 import KEYS
from milozero.helpers.errors import UserError
from tests.support.demos import episode


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


def test_file_without_end_flags_has_neither_termination_nor_truncation(tmp_path):
    path = tmp_path / "episode.h5"
    demos.write_demo(path, episode(truncated=False), {})
    assert demos.read_demo(path).terminated
    with h5py.File(path, "a") as file:
        del file["terminateds"], file["truncateds"]
    restored = demos.read_demo(path)
    assert (restored.terminated, restored.truncated) == (False, False)
