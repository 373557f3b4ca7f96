"""Damaged or malicious checkpoints: a one-line error, exit code 2, nothing executed or written elsewhere."""

import contextlib
import copy
import math
import random
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milozero import main
from milozero.experiment import checkpoint, hardware
from milozero.helpers.errors import UserError
from tests.support.fuzzing import fuzz

TRAIN = ("--env_id=CartPole", "--num_envs=2", "--rollout_len=32", "--batch_size=32", "--epochs=1", "--no-compile")
LONG = ("eval_episodes", "epochs", "rollout_len", "num_envs")  # a checkpoint may configure an endless run
JUNK = (None, True, -1, 10**30, math.nan, "..", "a\0b", "Hopper-v5", [], {"a": {}}, torch.ones(3), torch.ones(()))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Skip slow code that reads no checkpoint."""
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
    """The content of a short run's checkpoint."""
    folder = tmp_path_factory.mktemp("valid")
    argv = ["--task=train", *TRAIN, f"--data_dir={folder}", "--uuid=run", "--num_iters=2", "--eval_episodes=1"]
    assert main.main(argv) == 0
    return checkpoint.load(folder / "checkpoints/run/last.pt")


def node_paths(tree, path=()):
    """Return the path of every node in nested mappings and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path] * bool(path) + [node_path for key, value in items for node_path in node_paths(value, (*path, key))]


def replace_node(tree, path, value):
    """Return a copy of `tree` with one node replaced."""
    changed = copy.deepcopy(tree)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


@fuzz(3000)
@given(seed=st.integers(0, 2**32))
def test_damaged_bytes_are_refused(valid_file, seed):
    path, valid_bytes = valid_file
    rng = random.Random(seed)
    data = bytearray(valid_bytes)
    for _ in range(rng.choice([1, 1, 2, 8])):
        start, length = rng.randrange(len(data) + 1), rng.choice([1, 4, 100])
        new = rng.choice([bytes([rng.randrange(256)]) * length, rng.randbytes(length), b""])
        data[start : start + rng.choice([0, length])] = new
    path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])])
    with contextlib.suppress(UserError):
        content = checkpoint.load(path)
        assert path.read_bytes() == valid_bytes
        assert set(checkpoint.PARTS) <= set(content)


@pytest.fixture(scope="module")
def valid_file(valid, tmp_path_factory):
    """The path of a file to write, and the bytes of a valid checkpoint."""
    return tmp_path_factory.mktemp("files") / "x.pt", checkpoint.to_bytes(valid)


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize("task", ["eval", "train"])
def test_inconsistent_content_is_refused_and_nothing_is_written_elsewhere(valid, capsys, tmp_path, task, junk):
    data = tmp_path / "data"
    run_folder = data / "checkpoints/run"
    argv = [f"--task={task}", f"--data_dir={data}"]
    if task == "eval":
        argv += [f"--model_path={run_folder}", "--iter_num=last", "--num_trajs=1"]
    else:
        argv += ["--resume", "--uuid=run", "--num_iters=3"]
    for path in (path for path in node_paths(valid) if path[-1] not in LONG):
        run_folder.mkdir(parents=True)
        (run_folder / "last.pt").write_bytes(checkpoint.to_bytes(replace_node(valid, path, junk)))
        code, stderr = run(argv, capsys)
        assert code in (0, 1, 2), (path, stderr)
        # 1: a NaN or infinity among the numbers, found by training
        assert code != 1 or "is kept; for the values that led to it, see" in stderr, (path, stderr)
        if code:
            *warnings, error = stderr.splitlines()  # a warning: progress.csv of this run is missing
            assert error.startswith("error: "), (path, stderr)
            assert all("progress.csv lacks" in line for line in warnings), (path, stderr)
        shutil.rmtree(data)
        assert not list(tmp_path.iterdir()), path
