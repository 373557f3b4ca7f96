"""Demonstrations in NumPy files."""

import pickle

import numpy as np
import pytest

from milozero.demonstrations import dataset as demos
from milozero.helpers.errors import UserError
from tests.support.demos import episode


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
