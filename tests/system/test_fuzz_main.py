"""For any arguments, main.py exits with 0, or with 2 and one line on stderr, and writes no unexpected files."""

import contextlib
import io
import logging
import shutil
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from milozero import environments, main, orchestrator
from milozero.demonstrations.dataset import Episode, write_demo
from milozero.evaluation.recording import Recorder
from milozero.training import build
from tests.support.fakes import CountingEnv
from tests.support.fuzzing import NAMES, VALUES, fuzz, is_one_line, tree

FLAG_VALUES = st.builds("--{}={}".format, st.sampled_from(NAMES), VALUES)
FINE = st.sampled_from(
    ["--seed=7", "--uuid=ü b", "--layer_norm", "--execution_time=1-0", "--p_lr=1e-3", "--num_workers=1"]
)
FLAGS = FINE | FLAG_VALUES | st.sampled_from([*NAMES, "help"]).map("--{}".format) | VALUES
SMALL = {"num_envs": 1, "p_perception_stack": "mlp_4", "v_perception_stack": "mlp_4"}
BASE = (*(f"--{name}={value}" for name, value in SMALL.items()), "--rollout_len=16", "--batch_size=8", "--no-compile")
# Settings that may have any value. The others would write to another folder, or create more than this test needs.
FREE = [name for name in NAMES if name not in {"data_dir", "wandb_project", *SMALL}]
TASK_FLAGS = (
    st.builds("--{}={}".format, st.sampled_from(FREE), VALUES)
    | FINE
    | st.sampled_from(
        [
            "--task=eval",
            "--model_path=broken",
            "--iter_num=last",
            "--expert_path=broken",
            "--expert_path=good",
            "--num_demos=1",
            "--expert_path=..",
            "--uuid=..",
            "--uuid=../x",
            "--uuid=a",
            "--data_dir=file",
            "--data_dir=file/x",
            "--data_dir=deep/er",
            "--num_timesteps=64",
            "--env_id=Hopper-v99",
            "--env_id=nothing:X",
            "--batch_norm_all",
            "--cuda",
        ]
    )
)


def run(arguments):
    """Run main.py, check its exit code (0 or 2) and stderr (empty or one line); return the exit code."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main.main(arguments)
        except SystemExit as end:
            code = ("help", end.code)
    stderr = err.buffer.getvalue().decode()
    if code == 2:
        assert stderr.startswith("error: ")
        assert stderr.endswith("\n")
        assert is_one_line(stderr[len("error: ") : -1])
    else:
        assert code in (0, ("help", 0))
        assert stderr == ""
    return code


@pytest.fixture(scope="module")
def work_folder(tmp_path_factory):
    """Change to a working folder, which commands may write to; nothing else in its parent may change."""
    work_folder = tmp_path_factory.mktemp("main") / "work"
    (work_folder / "broken").mkdir(parents=True)
    (work_folder / "broken" / "last.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    (work_folder / "broken" / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n no episode")
    (work_folder / "good").mkdir()
    write_demo(work_folder / "good" / "a.h5", Episode(np.ones((3, 1)), np.ones((2, 1)), np.ones(2), True, False), {})
    (work_folder / "file").write_text("a file")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work_folder)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(name, "1")  # main.py sets them permanently
        yield work_folder
    torch.set_num_threads(threads)


@fuzz(600)
@given(arguments=st.lists(FLAGS, max_size=3))
def test_fuzz_main_up_to_its_task(work_folder, arguments):
    before = tree(work_folder.parent)
    with pytest.MonkeyPatch.context() as patch:
        for task in ("milozero.orchestrator.train", "milozero.evaluation.evaluate.evaluate"):
            patch.setattr(task, lambda *_: None)
        run(arguments)
    assert tree(work_folder.parent) == before


def skip_training(patch):
    """End training runs before their first step, and replace the environment by one without a simulator."""
    env = CountingEnv([3])
    env.observation_space, env.close, env.spec = spaces.Box(-np.inf, np.inf, (1,)), lambda: None, None
    for name in ("make_env", "make_vector_env"):
        patch.setattr(environments, name, lambda *_, **__: env)
    patch.setattr(environments, "check_env", lambda *_: [])
    patch.setattr(build, "EpisodeRecorder", lambda *_: Recorder())
    patch.setattr(orchestrator, "iterate", lambda *_, **__: ("finished", "enough"))
    patch.setattr(orchestrator, "write_summary", lambda *_, **__: ["done"])
    patch.setattr(sys, "argv", ["main.py"])
    patch.setattr(logging.getLogger(), "handlers", [])


@fuzz(150)
@given(arguments=st.lists(TASK_FLAGS, max_size=3))
def test_fuzz_main_up_to_its_first_step(work_folder, arguments):
    before = tree(work_folder.parent)
    with pytest.MonkeyPatch.context() as patch:
        skip_training(patch)
        code = run([*BASE, *arguments])
        for handler in logging.getLogger().handlers:
            handler.close()
    after = tree(work_folder.parent)
    new = [path for path in after if path not in before]
    assert all(after[path] == before[path] for path in before)
    if code != 0:
        assert new == []
    assert all(path.startswith((f"{work_folder}/data", f"{work_folder}/deep")) for path in new)
    for folder in ("data", "deep"):
        shutil.rmtree(work_folder / folder, ignore_errors=True)
