"""Demonstrations are selected, subsampled and held out for validation."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from milozero.demonstrations import dataset as demos
from milozero.helpers.errors import UserError
from tests.support.demos import episode


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
