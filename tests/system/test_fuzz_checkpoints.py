"""Damaged or malicious checkpoints: a one-line error, exit code 2, nothing executed or written elsewhere."""

import contextlib
import copy
import math
import random
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milozero import main
from milozero.experiment import checkpoint, hardware
from milozero.helpers.errors import UserError
from tests.support.fuzzing import fuzz

TRAIN = ("--env_id=CartPole", "--num_envs=2", "--rollout_len=32", "--batch_size=32", "--epochs=1", "--no-compile")
LONG = ("eval_episodes", "epochs", "rollout_len", "num_envs")  # a checkpoint may ask for a run that takes for ever
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["..", "../../../escaped", "/escaped", "ppo", "Hopper-v5", "os:system", "a\0b", "", "mlp_8"]),
    st.sampled_from([[], {}, [[]], {"a": {}}, torch.ones(3), torch.ones(()), 10**30, -1, math.inf]),
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Leave out what takes most of the time and reads no checkpoint."""
    monkeypatch.setattr("milozero.training.summary.plot_learning_curve", lambda *_: None)
    monkeypatch.setattr("milozero.experiment.initializer.git_sha", lambda: "nogit")
    monkeypatch.setattr(hardware, "can_compile", lambda device: False)


def run(argv, capsys):
    """Return exit code and stderr of main.py, run in this process."""
    capsys.readouterr()
    code = main.main(argv)
    return code, capsys.readouterr().err


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """The content of a checkpoint of a short run, which was stopped between two fresh starts."""
    folder = tmp_path_factory.mktemp("valid")
    argv = ["--task=train", *TRAIN, f"--data_dir={folder}", "--uuid=run", "--num_iters=2", "--eval_episodes=1"]
    assert main.main(argv) == 0
    return checkpoint.load(folder / "checkpoints/run/last.pt")


def places(tree, path=()):
    """Return the path of every node in nested mappings and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path] * bool(path) + [place for key, value in items for place in places(value, (*path, key))]


def put(tree, path, value):
    """Return a copy of `tree` with something else in one place."""
    changed = copy.deepcopy(tree)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


@fuzz(3000)
@given(seed=st.integers(0, 2**32), first_layout=st.booleans())
def test_damaged_bytes_are_refused(valid_files, seed, first_layout):
    path, whole = valid_files[first_layout]
    chance = random.Random(seed)
    data = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2, 8])):
        place, length = chance.randrange(len(data) + 1), chance.choice([1, 4, 100])
        new = chance.choice([bytes([chance.randrange(256)]) * length, chance.randbytes(length), b""])
        data[place : place + chance.choice([0, length])] = new
    path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data) + 1)])])
    with contextlib.suppress(UserError):
        content = checkpoint.load(path)
        assert first_layout or path.read_bytes() == whole  # only the first layout has no checksum
        assert set(checkpoint.PARTS) <= set(content)


@pytest.fixture(scope="module")
def valid_files(valid, tmp_path_factory):
    """Layout number 1 or not → a file to write to, and a valid one's bytes."""
    folder = tmp_path_factory.mktemp("files")
    torch.save({**valid, "version": 1, "random_states": []}, folder / "old.pt")
    return {
        True: (folder / "x.pt", (folder / "old.pt").read_bytes()),
        False: (folder / "x.pt", checkpoint.to_bytes(valid)),
    }


@fuzz(100)
@given(data=st.data())
def test_inconsistent_content_is_refused_and_nothing_is_written_elsewhere(valid, capsys, data):
    path = data.draw(st.sampled_from(places(valid)).filter(lambda path: path[-1] not in LONG))
    content = put(valid, path, data.draw(JUNK))
    task = data.draw(st.sampled_from(["eval", "train"]))
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "data"
        run_folder = inside / "checkpoints/run"
        run_folder.mkdir(parents=True)
        checkpoint.save(run_folder / "last.pt", content)
        before = set(Path(folder).rglob("*"))
        argv = [f"--task={task}", f"--data_dir={inside}"]
        if task == "eval":
            argv += [f"--model_path={run_folder}", "--iter_num=last", "--num_trajs=1"]
        else:
            argv += ["--resume", "--uuid=run", "--num_iters=3"]
        code, stderr = run(argv, capsys)
        assert code in (0, 1, 2), stderr
        assert code != 1 or "is kept; for the values that led to it, see" in stderr  # a NaN among the numbers
        if code:
            assert stderr.startswith("error: ")
            assert len(stderr.splitlines()) == 1
        written = set(Path(folder).rglob("*")) - before
        assert all(inside in path.parents for path in written)
