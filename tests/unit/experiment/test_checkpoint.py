"""Checkpoint files: round trips, damage, layouts and pruning."""

import pickle

import numpy as np
import pytest
import torch
import yaml

from milozero.experiment import checkpoint
from milozero.helpers import files
from milozero.helpers.errors import UserError

CONTENT = {
    "config": {"algo": "ppo", "num_iters": None},
    "agent": {"weights": torch.ones(3)},
    "counters": {"iteration": 3},
    "workers": [{"agent": {"shuffle": np.random.default_rng(0).bit_generator.state}, "start": 3, "actions": []}],
}


def test_last_checkpoint_replaces_the_best_one_only_by_default(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("iter_3.pt", "last.pt"):
        (tmp_path / name).touch()
    assert checkpoint.find(str(tmp_path), "best", is_default=True) == tmp_path / "last.pt"
    assert "has no best.pt, because the run was not evaluated: using last.pt" in caplog.text
    with pytest.raises(UserError, match=r"no such checkpoint in .*; available: 3, last"):
        checkpoint.find(str(tmp_path), "best")
    (tmp_path / "best.pt").touch()
    assert checkpoint.find(str(tmp_path), "best", is_default=True) == tmp_path / "best.pt"


def test_loading_a_checkpoint_returns_what_was_saved(tmp_path):
    (tmp_path / "last.pt").write_bytes(checkpoint.to_bytes(CONTENT))
    loaded = checkpoint.load(tmp_path / "last.pt")
    assert loaded["workers"] == CONTENT["workers"]
    assert torch.equal(loaded["agent"]["weights"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "last.pt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_checkpoint_is_a_user_error(tmp_path, keep):
    path = tmp_path / "last.pt"
    path.write_bytes(checkpoint.to_bytes(CONTENT))
    original = path.read_bytes()
    path.write_bytes(original[: int(keep * len(original)) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path)


def test_loading_a_malicious_file_executes_nothing(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",))

    (tmp_path / "a.pt").write_bytes(pickle.dumps(Malicious()))
    torch.save(Malicious(), tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(UserError, match="damaged"):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_missing_iteration_lists_the_available_ones(tmp_path):
    for name in ("iter_100.pt", "iter_20.pt", "best.pt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="available: 20, 100, best"):
        checkpoint.find(str(tmp_path), "620")
    assert checkpoint.find(str(tmp_path), "20").name == "iter_20.pt"
    with pytest.raises(UserError, match="no such folder"):
        checkpoint.find(str(tmp_path / "no"), "best")


def test_path_of_a_file_names_the_checkpoint(tmp_path):
    for name in ("iter_20.pt", "best.pt", "else.pt"):
        (tmp_path / name).touch()
    file = tmp_path / "iter_20.pt"
    assert checkpoint.find(str(file), "best", is_default=True) == file
    assert checkpoint.find(str(file), "20") == file
    with pytest.raises(UserError, match=r"iter_20.pt and --iter_num=best name different checkpoints"):
        checkpoint.find(str(file), "best")
    for name in ("else.pt", "iter_30.pt"):
        with pytest.raises(UserError, match="no such folder"):
            checkpoint.find(str(tmp_path / name), "best", is_default=True)


def test_each_flipped_bit_is_detected(tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(checkpoint.to_bytes(CONTENT))
    original = path.read_bytes()
    for index in range(0, len(original), 37):
        path.write_bytes(original[:index] + bytes([original[index] ^ 1]) + original[index + 1 :])
        with pytest.raises(UserError, match="damaged"):
            checkpoint.load(path)


def test_torch_can_load_a_checkpoint(tmp_path):
    (tmp_path / "last.pt").write_bytes(checkpoint.to_bytes(CONTENT))
    assert torch.load(tmp_path / "last.pt", weights_only=True)["counters"] == {"iteration": 3}


@pytest.mark.parametrize(("version", "age"), [(4, "an older"), (6, "a newer")])
def test_other_layouts_are_refused(tmp_path, monkeypatch, version, age):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "LAYOUT_VERSION", version)
        (tmp_path / "other.pt").write_bytes(checkpoint.to_bytes(CONTENT))
    with pytest.raises(UserError, match=f"layout {version}, of {age} MiloZero; this version reads layout 5"):
        checkpoint.load(tmp_path / "other.pt")


@pytest.mark.parametrize("part", [{"config": {"algo": ["ppo"]}}, {"counters": {"iteration": -1}}, {"workers": {}}])
def test_content_of_another_kind_is_refused(tmp_path, part):
    (tmp_path / "other.pt").write_bytes(checkpoint.to_bytes(CONTENT | part))
    with pytest.raises(UserError, match="not a checkpoint of MiloZero"):
        checkpoint.load(tmp_path / "other.pt")


def at(iteration):
    return CONTENT | {"counters": {"iteration": iteration}}


def load_newest(folder):
    warnings = []
    content = checkpoint.load_newest(folder, warnings.append)
    return content and content["counters"]["iteration"], len(warnings)


def test_newest_intact_checkpoint_is_loaded_and_damaged_ones_cause_a_warning(tmp_path):
    assert load_newest(tmp_path) == (None, 0)
    (tmp_path / "best.pt").write_bytes(checkpoint.to_bytes(at(9)))
    assert load_newest(tmp_path) == (None, 0)  # a run cannot resume from the best policy alone
    for iteration in (5, 10):
        (tmp_path / f"iter_{iteration}.pt").write_bytes(checkpoint.to_bytes(at(iteration)))
    assert load_newest(tmp_path) == (10, 0)
    (tmp_path / "last.pt").write_bytes(checkpoint.to_bytes(at(5)))  # as after a kill between the two files
    assert load_newest(tmp_path) == (10, 0)
    (tmp_path / "iter_10.pt").write_bytes(b"half")
    assert load_newest(tmp_path) == (5, 1)
    (tmp_path / "last.pt").write_bytes(b"")
    assert load_newest(tmp_path) == (5, 2)
    (tmp_path / "iter_5.pt").write_bytes(b"x")
    with pytest.raises(UserError, match="none of the checkpoints"):
        load_newest(tmp_path)


OWN = {"run_id": "0123abcd", "env_id": "Hopper-v5"}


def of(iteration, **config):
    return at(iteration) | {"config": OWN | config}


@pytest.mark.parametrize("config", [{"run_id": "ffffffff"}, {"env_id": "Ant-v5"}])
@pytest.mark.parametrize(("described", "last", "own"), [(True, 9, 5), (True, 5, 9), (False, 5, 9)])
def test_checkpoint_of_another_run_is_refused(tmp_path, config, described, last, own):
    if described:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(OWN))
    (tmp_path / f"iter_{own}.pt").write_bytes(checkpoint.to_bytes(of(own)))
    (tmp_path / "last.pt").write_bytes(checkpoint.to_bytes(of(last, **config)))
    with pytest.raises(UserError, match=r"\.pt belongs to another run \((Hopper|Ant)-v5, run .*move one of them"):
        load_newest(tmp_path)


@pytest.mark.parametrize("described", [{}, {"run_id": ""}, {"run_id": "not an id"}, {"env_id": ""}, OWN])
def test_missing_run_ids_and_environments_fit_any_checkpoint(tmp_path, described):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(described))
    (tmp_path / "last.pt").write_bytes(checkpoint.to_bytes(of(5)))
    assert load_newest(tmp_path) == (5, 0)


def test_prune_removes_the_oldest_checkpoints_and_keeps_best_and_last(tmp_path):
    for name in ("iter_2", "iter_10", "iter_9", "best", "last"):
        (tmp_path / f"{name}.pt").touch()
    checkpoint.prune(tmp_path, 0, 10)
    assert len(list(tmp_path.iterdir())) == 5
    checkpoint.prune(tmp_path, 1, 9)
    assert checkpoint.list_checkpoints(tmp_path) == ["9", "10", "best", "last"]
    checkpoint.prune(tmp_path, 1, 10)
    assert checkpoint.list_checkpoints(tmp_path) == ["10", "best", "last"]


def test_leftovers_of_a_killed_write_are_removed(tmp_path):
    (tmp_path / ".last.pt.123").touch()
    (tmp_path / "last.pt").touch()
    checkpoint.remove_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
