import h5py
import numpy as np
import pytest

from helpers import demos
from helpers.errors import UserError


def episode(length=4, truncated=True):
    rng = np.random.default_rng(length)
    obs, actions = rng.normal(size=(length + 1, 3)), rng.normal(size=(length, 2))
    return demos.Episode(obs, actions, np.arange(length, dtype=float), not truncated, truncated)


def test_demo_gives_back_the_episode_in_the_contracts_layout(tmp_path):
    path = tmp_path / "episode.h5"
    demos.write_demo(path, episode(), {"env_id": "X-v0", "seed": 3})
    with h5py.File(path) as file:
        assert set(demos.KEYS) | {"terminateds", "truncateds"} == set(file)
        assert file["ep_lens"][0] == 4
        assert file["ep_env_rets"][0] == 6.0
        assert file.attrs["env_id"] == "X-v0"
        assert file["dones1"][-1]
    back = demos.read_demo(path)
    np.testing.assert_allclose(back.obs, episode().obs, rtol=1e-6)
    assert back.truncated
    assert not back.terminated


def test_demos_come_in_name_order_and_too_few_is_an_error(tmp_path):
    for length in (5, 2, 3):
        demos.write_demo(tmp_path / f"{length}.h5", episode(length), {})
    assert [len(e) for e in demos.read_demos(str(tmp_path), 2)] == [2, 3]
    assert len(demos.read_demos(str(tmp_path), 0)) == 3
    with pytest.raises(UserError, match="holds 3"):
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


def test_demo_of_another_environment_is_refused():
    with pytest.raises(UserError, match="shapes"):
        demos.check_fit([episode()], "folder", 11, (3,))
