"""Any file is read as complete episodes or rejected with a one-line error."""

import contextlib
import os

import h5py
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from milozero.demonstrations import dataset as demos
from milozero.helpers.errors import UserError
from tests.support.fuzzing import fuzz, is_one_line, tree

LENGTH = 4
ACTIONS = spaces.Box(-1.0, 1.0, (2,))
GOOD = {
    "obs0": np.ones((LENGTH, 3), np.float32),
    "obs1": np.ones((LENGTH, 3), np.float32),
    "acs": np.ones((LENGTH, 2)),
    "dones1": np.zeros(LENGTH, bool),
    "terminateds": np.zeros(LENGTH, bool),
    "truncateds": np.zeros(LENGTH, bool),
    "env_rews": np.ones(LENGTH),
    "ep_lens": np.array([LENGTH]),
    "ep_env_rets": np.array([4.0]),
}
SHAPES = ((), (0,), (LENGTH,), (LENGTH, 1), (LENGTH, 3), (LENGTH, 0), (3, 3), (LENGTH, 3, 2), (1,) * 32)
TYPES = (
    *("f2", ">f8", "g", "i1", ">u8", "?", "c16", "S3", "V5"),
    h5py.string_dtype(),
    h5py.vlen_dtype(np.float32),
    h5py.ref_dtype,
    h5py.regionref_dtype,
    h5py.enum_dtype({"a": 1}),
    np.dtype([("x", "f4"), ("y", "i8")]),
    np.dtype(("f4", (3,))),
    h5py.opaque_dtype(np.dtype("M8[s]")),
)
HUGE = (2**60, 3)


def layout(other, shape=(LENGTH, 3)):
    """Return a virtual dataset's layout whose rows are in another file."""
    virtual = h5py.VirtualLayout(shape, "f4")
    virtual[...] = h5py.VirtualSource(other, "obs0", shape)
    return virtual


# name → writes something else instead of an array; `other` is the path of a valid demonstration
HOSTILE = {
    "missing": lambda file, key, other: None,
    "group": lambda file, key, other: file.create_group(key),
    "named type": lambda file, key, other: file.__setitem__(key, np.dtype("f4")),
    "no shape": lambda file, key, other: file.__setitem__(key, h5py.Empty("f4")),
    "link to another file": lambda file, key, other: file.__setitem__(key, h5py.ExternalLink(other, key)),
    "link to no file": lambda file, key, other: file.__setitem__(key, h5py.ExternalLink("/dev/zero", key)),
    "link to itself": lambda file, key, other: file.__setitem__(key, h5py.SoftLink(f"/{key}")),
    "link to the root": lambda file, key, other: file.__setitem__(key, h5py.SoftLink("/")),
    "link to nothing": lambda file, key, other: file.__setitem__(key, h5py.SoftLink("/nothing")),
    "virtual": lambda file, key, other: file.create_virtual_dataset(key, layout(other)),
    "virtual, huge": lambda file, key, other: file.create_virtual_dataset(key, layout("none.h5", HUGE)),
    "bytes of another file": lambda file, key, other: file.create_dataset(
        key, (LENGTH, 3), "f4", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]
    ),
    "huge": lambda file, key, other: file.create_dataset(key, HUGE, "f4"),
    "huge in chunks": lambda file, key, other: file.create_dataset(
        key, HUGE, "f4", chunks=(2, 2), compression="gzip"
    ),
    "huge chunk": lambda file, key, other: file.create_dataset(
        key, (4, 3), "f4", chunks=(2**27, 3), maxshape=(None, 3)
    ),
    "NaN": lambda file, key, other: file.__setitem__(key, np.full_like(GOOD[key], np.nan, float)),
    "infinite": lambda file, key, other: file.__setitem__(key, np.full_like(GOOD[key], np.inf, float)),
    "large": lambda file, key, other: file.__setitem__(key, np.full_like(GOOD[key], 1e308, float)),
}
CONTENT = st.sampled_from(sorted(HOSTILE)) | st.tuples(st.sampled_from(SHAPES), st.sampled_from(TYPES))
FILES = st.dictionaries(st.sampled_from(sorted(GOOD)), CONTENT, min_size=1, max_size=2)


def write(path, other, changes):
    """Write a demonstration, some of its arrays replaced."""
    with h5py.File(path, "w") as file:
        for key, values in GOOD.items():
            change = changes.get(key)
            if change is None:
                file[key] = values
            elif isinstance(change, str):
                HOSTILE[change](file, key, str(other))
            else:
                file.create_dataset(key, *change)


def check_outcome(folder):
    """Read a folder; check that the result is complete episodes or a one-line error, and that no file changes."""
    before, message = tree(folder), "good"
    try:
        episodes = demos.read_demos(str(folder), 0)
        for episode in episodes:
            assert len(episode.obs) == len(episode) + 1 > 1
            assert all(np.isfinite(a).all() for a in (episode.obs, episode.actions, episode.rewards, episode.return_))
        demos.check_compatible(episodes, str(folder), 3, ACTIONS)
    except UserError as error:
        message = str(error)
    assert is_one_line(message)
    assert tree(folder) == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demos")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Return the path of a valid demonstration in another folder."""
    path = tmp_path_factory.mktemp("other") / "good.h5"
    write(path, "", {})
    return path


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Return the bytes of two demonstrations, one uncompressed and one compressed."""
    path = tmp_path_factory.mktemp("originals") / "a.h5"
    write(path, "", {})
    plain = path.read_bytes()
    episode = demos.Episode(np.ones((9, 3)), np.ones((8, 2)), np.ones(8), True, False)
    demos.write_demo(path, episode, {"env_id": "X-v0"})
    return plain, path.read_bytes()


@fuzz(400)
@given(changes=FILES)
def test_fuzz_demonstration_of_hostile_content(folder, other, changes):
    path = folder / "a.h5"
    with contextlib.suppress(OSError, TypeError, ValueError):  # not every type is valid for every shape
        write(path, other, changes)
    check_outcome(folder)


MUTATIONS = st.tuples(
    st.integers(0, 2**16),  # position
    st.sampled_from(["set", "copy", "insert", "delete", "cut"]),
    st.sampled_from([b"\0", b"\xff", b"\x01", b"\x80", b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7])
    | st.binary(max_size=8),
    st.integers(0, 2**16),  # position to copy from
)


def mutate(content, source, mutations):
    """Return `content` with some bytes changed; positions count nonzero bytes only, since most bytes are zero."""
    content = bytearray(content)
    for where, kind, new, start in mutations:
        used = [i for i, byte in enumerate(content) if byte] or [0]
        i, size = used[where % len(used)], max(len(new), 1)
        if kind == "set":
            content[i : i + size] = new
        elif kind == "copy":
            content[i : i + 8 * size] = source[start % len(source) :][: 8 * size]
        elif kind == "insert":
            content[i:i] = new
        elif kind == "delete":
            del content[i : i + size]
        elif start % 8 == 0:
            del content[i:]
    return bytes(content)


@fuzz(600)
@given(swap=st.booleans(), mutations=st.lists(MUTATIONS, min_size=1, max_size=5))
def test_fuzz_demonstration_of_mutated_bytes(folder, originals, swap, mutations):
    first, second = reversed(originals) if swap else originals
    (folder / "a.h5").write_bytes(mutate(first, second, mutations))
    check_outcome(folder)


@fuzz(200)
@given(content=st.binary(max_size=200), signature=st.booleans())
def test_fuzz_demonstration_of_any_bytes(folder, content, signature):
    (folder / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" * signature + content)
    check_outcome(folder)


@pytest.mark.parametrize("key", ["obs0", "env_rews"])
@pytest.mark.parametrize("change", HOSTILE)
def test_demonstration_with_a_hostile_array_is_rejected(tmp_path, other, key, change):
    write(tmp_path / "a.h5", other, {key: change})
    with pytest.raises(UserError, match=f"{key}|NaN"):
        demos.read_demo(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("key", "shape"), [("obs1", (4, 2)), ("env_rews", (4, 1)), ("truncateds", (0,)), ("acs", (3, 2))]
)
def test_demonstration_with_inconsistent_shapes_is_rejected(tmp_path, key, shape):
    write(tmp_path / "a.h5", "", {key: (shape, "f4")})
    with pytest.raises(UserError, match="differ"):
        demos.read_demo(tmp_path / "a.h5")


def test_every_demonstration_is_checked_not_only_the_first():
    first, second = (demos.Episode(np.ones((2, size)), np.ones((1, 2)), np.ones(1), True, False) for size in (3, 4))
    with pytest.raises(UserError, match="shapes"):
        demos.check_compatible([first, second], "folder", 3, ACTIONS)


def test_named_pipe_is_rejected_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(UserError, match="not a regular file"):
        demos.read_demos(str(tmp_path), 0)
