import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from helpers import checkpoint

HERE = Path(__file__).parent
SHORT = (
    "--task=train",
    "--env_id=Pendulum",
    "--num_envs=4",
    "--rollout_len=256",
    "--no-compile",
    "--eval_episodes=1",
)


@pytest.mark.parametrize("case", ["Hopper-v5 plain", "Hopper-v5 bn", "CartPole-v1 plain"])
def test_two_workers_with_one_environment_have_the_gradient_of_one_with_two(tmp_path, case):
    found = []
    for size in (1, 2):
        path = tmp_path / f"{size}.npy"
        launcher = [shutil.which("mpiexec"), "-n", str(size)]
        env = os.environ | {"PYTHONPATH": str(HERE.parent.parent), "OMP_NUM_THREADS": "1"}
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        command = [*launcher, sys.executable, str(HERE / "first_gradient.py"), str(path), *case.split()]
        subprocess.run(command, check=True, env=env, timeout=120)
        found.append(np.load(path))
    assert np.linalg.norm(found[0]) > 1e-4
    assert np.linalg.norm(found[0] - found[1]) / np.linalg.norm(found[0]) < 1e-5


def test_all_workers_train_as_one(milozero, tmp_path):
    result = milozero(*SHORT, "--num_iters=3", "--uuid=two", "--hash_frequency=1", "--num_workers=2", workers=2)
    assert result.returncode == 0, result.stderr
    state = torch.load(tmp_path / "data/checkpoints/two/last.pt", weights_only=True)
    assert state["counters"]["timesteps"] == 3 * 2 * 256
    assert len(state["workers"]) == 2
    assert state["workers"][0]["agent"]["shuffle"] != state["workers"][1]["agent"]["shuffle"]
    assert state["config"]["num_workers"] == 2


def test_worker_that_raises_ends_the_job_within_ten_seconds_with_its_traceback(milozero):
    started = time.monotonic()
    result = milozero(*SHORT, "--env_id=user_envs:Breaking-v0", "--num_iters=1000", workers=2, timeout=60)
    assert result.returncode != 0
    assert "RuntimeError: the simulator broke" in result.stderr
    assert "worker 1 of 2 failed" in result.stderr
    assert time.monotonic() - started < 20  # start-up included


def test_non_finite_reward_names_itself_and_keeps_the_checkpoint(milozero, tmp_path):
    flags = ("--env_id=user_envs:Unfinite-v0", "--num_iters=50", "--save_frequency=1", "--uuid=nan")
    result = milozero(*SHORT, *flags, "--rollout_len=64", "--batch_size=64")
    assert result.returncode == 1
    assert "NaN or infinite reward" in result.stderr
    assert "worker 0: the environment returned" in (tmp_path / "data/logs/nan/log.txt").read_text()
    evidence = torch.load(tmp_path / "data/logs/nan/non_finite.pt", weights_only=True)
    assert torch.isnan(evidence["rewards"]).any()
    assert (tmp_path / "data/checkpoints/nan/last.pt").exists()


def test_infinite_observation_on_one_of_two_workers_ends_both_and_keeps_the_checkpoint(milozero, tmp_path):
    flags = ("--env_id=user_envs:UnfiniteOnOne-v0", "--num_iters=50", "--save_frequency=1", "--uuid=inf")
    result = milozero(*SHORT, *flags, "--rollout_len=64", "--batch_size=64", workers=2, timeout=60)
    assert result.returncode == 1
    assert "user_envs:UnfiniteOnOne-v0" in result.stderr
    assert "worker 1: the environment returned a NaN or infinite observation (environment" in result.stderr
    assert result.stderr.count("error:") == 1
    counters = checkpoint.load(tmp_path / "data/checkpoints/inf/last.pt")["counters"]
    assert counters["iteration"] >= 1


def test_other_number_of_workers_than_asked_for_is_an_error(milozero, tmp_path):
    result = milozero(*SHORT, "--num_workers=3", workers=2)
    assert result.returncode == 2
    assert "--num_workers=3, but 2 started" in result.stderr
    assert result.stderr.count("error: --num_workers") == 1
    assert not (tmp_path / "data").exists()


def test_foreign_mpiexec_that_starts_single_worlds_is_noticed(milozero, tmp_path):
    result = milozero(*SHORT, env={"PMI_SIZE": "2", "PMI_RANK": "0"})
    assert result.returncode == 2
    assert "world of 1" in result.stderr
    assert not (tmp_path / "data").exists()


def test_one_worker_needs_no_mpi(milozero, tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('there is no MPI here')")
    result = milozero(*SHORT, "--num_iters=1", env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 0, result.stderr


def test_same_seed_gives_the_same_run_and_another_seed_another(milozero, tmp_path):
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = milozero(*SHORT, "--num_iters=2", f"--uuid={name}", f"--seed={seed}")
        assert result.returncode == 0, result.stderr
        state = torch.load(tmp_path / f"data/checkpoints/{name}/last.pt", weights_only=True)
        hashes.append(state["agent"]["optimizer"]["parameters"].numpy().tobytes())
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_compiled_and_plain_updates_agree(milozero, tmp_path, workers):
    found = []
    for switch in ("--compile", "--no-compile"):
        flags = [flag for flag in SHORT if flag != "--no-compile"]
        result = milozero(*flags, switch, "--num_iters=3", f"--uuid={switch}", workers=workers, timeout=280)
        assert result.returncode == 0, result.stderr
        state = torch.load(tmp_path / f"data/checkpoints/{switch}/last.pt", weights_only=True)
        found.append(state["agent"]["optimizer"]["parameters"])
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)
    assert yaml.safe_load((tmp_path / "data/logs/--compile/config.yaml").read_text())["compile"] is True


def test_code_is_compiled_once_for_all_workers_and_kept_for_the_next_run(milozero, tmp_path):
    log, compiler = tmp_path / "compiled", tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {shutil.which("g++")} "$@"\n')
    compiler.chmod(0o755)
    env = {"CXX": str(compiler), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    steps = []
    for name in ("first", "second"):
        flags = [flag for flag in SHORT if flag != "--no-compile"]
        result = milozero(*flags, "--compile", "--num_iters=1", f"--uuid={name}", workers=2, timeout=280, env=env)
        assert result.returncode == 0, result.stderr
        steps.append([line for line in log.read_text().splitlines() if "all_reduce" in source(line)])
    assert len(steps[0]) == 1
    assert steps[1] == steps[0]


def source(command):
    """Return the text of the C++ file that a compiler's command line names."""
    files = [Path(word) for word in command.split() if word.endswith(".cpp")]
    return files[0].read_text() if files and files[0].exists() else ""
