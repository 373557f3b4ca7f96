import pickle

import numpy as np
import pytest
import torch

from helpers import checkpoint
from helpers.errors import UserError

CONTENT = {
    "config": {"algo": "ppo"},
    "agent": {"weights": torch.ones(3)},
    "counters": {"iteration": 3},
    "random_states": [{"shuffle": np.random.default_rng(0).bit_generator.state}],
}


def test_checkpoint_gives_back_what_was_saved(tmp_path):
    checkpoint.save(tmp_path / "last.pt", CONTENT)
    loaded = checkpoint.load(tmp_path / "last.pt")
    assert loaded["random_states"] == CONTENT["random_states"]
    assert torch.equal(loaded["agent"]["weights"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "last.pt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_checkpoint_is_a_user_error(tmp_path, keep):
    path = tmp_path / "last.pt"
    checkpoint.save(path, CONTENT)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path)


def test_hostile_file_runs_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",))

    (tmp_path / "a.pt").write_bytes(pickle.dumps(Hostile()))
    torch.save(Hostile(), tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(UserError, match="damaged"):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_missing_iteration_lists_what_is_there(tmp_path):
    for name in ("iter_100.pt", "iter_20.pt", "best.pt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="there are 20, 100, best"):
        checkpoint.find(str(tmp_path), "620")
    assert checkpoint.find(str(tmp_path), "20").name == "iter_20.pt"
    with pytest.raises(UserError, match="no such folder"):
        checkpoint.find(str(tmp_path / "no"), "best")
