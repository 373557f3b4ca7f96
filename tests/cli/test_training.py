"""Training from the command line."""

import json
import re
import shutil

import imageio.v2
import numpy as np
import pytest
import torch

from milozero.experiment import checkpoint
from milozero.tracking.csv import read_progress
from milozero.training.run import Training
from tests.support.fakes import check_events
from tests.support.one_run import ENDLESS, FAST, ONE, PENDULUM


@pytest.mark.parametrize("env_id", ["CartPole", "Acrobot", "Hopper-v4", "tests.support.user_envs:Bounded-v0"])
def test_other_environments_train_and_evaluate(milozero, tmp_path, env_id):
    result = milozero("--task=train", f"--env_id={env_id}", "--uuid=x", *FAST)
    assert result.returncode == 0, result.stderr
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    assert milozero("--task=eval", path, "--num_trajs=1").returncode == 0


@pytest.mark.usefixtures("run")
def test_existing_experiment_is_refused_and_unchanged(milozero, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    result = milozero("--task=train", "--uuid=run", *FAST)
    assert result.returncode == 2
    assert "already exists" in result.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_generated_name_describes_the_run(milozero, tmp_path):
    assert milozero("--task=train", "--env_id=CartPole", "--seed=7", *FAST).returncode == 0
    (name,) = [path.name for path in (tmp_path / "data/checkpoints").iterdir()]
    assert re.fullmatch(r"[a-z]+_[a-z]+_\d+\.\w+\.CartPole-v1\.ppo\.workers1\.demos00\.seed07", name)


def test_policy_is_evaluated_every_eval_frequency_iterations_and_at_the_end(milozero, tmp_path):
    assert milozero(*PENDULUM, "--num_iters=5", "--eval_frequency=2", "--uuid=x").returncode == 0
    columns = read_progress(tmp_path / "data/logs/x/progress.csv")
    assert columns["iteration"][~np.isnan(columns["eval_return"])].tolist() == [2, 4, 5]


@pytest.mark.parametrize("folder", ["logs", "checkpoints", ""])
def test_folders_that_are_removed_during_a_run_are_written_again(milozero, tmp_path, monkeypatch, folder):
    save = Training.save

    def remove_and_save(run, **how):
        if run.counters.iteration == 2:
            shutil.rmtree(tmp_path / "data" / folder)
        save(run, **how)

    monkeypatch.setattr(Training, "save", remove_and_save)
    env = "--env_id=tests.support.user_envs:Bounded-v0"
    flags = (*ONE, env, "--save_frequency=1", "--num_iters=3", "--tensorboard")
    result = milozero(*flags)
    assert result.returncode == 0, result.stderr
    logs, checkpoints = tmp_path / "data/logs/x", tmp_path / "data/checkpoints/x"
    assert read_progress(logs / "progress.csv")["iteration"].tolist() == [1, 2, 3]
    assert check_events(logs) == [1, 2, 3]
    assert "experiment x: ppo on" in (logs / "log.txt").read_text()
    assert json.loads((logs / "status.json").read_text())["state"] == "finished"
    for file in (logs / "config.yaml", logs / "learning_curve.png", checkpoints / "config.yaml"):
        assert file.exists()
    assert checkpoint.load(checkpoints / "last.pt")["counters"]["iteration"] == 3
    assert milozero("--task=eval", f"--model_path={checkpoints}", "--num_trajs=1").returncode == 0


def test_zero_eval_episodes_never_evaluate(milozero, tmp_path):
    result = milozero("--task=train", *ENDLESS, "--eval_episodes=0", "--eval_frequency=1")
    assert result.returncode == 0, result.stderr
    assert "time limit" not in result.stdout
    assert np.isnan(read_progress(tmp_path / "data/logs/x/progress.csv")["eval_return"]).all()
    assert not (tmp_path / "data/checkpoints/x/best.pt").exists()


@pytest.mark.usefixtures("run")
def test_status_has_the_iteration_of_the_newest_checkpoint(tmp_path):
    status = json.loads((tmp_path / "data/logs/run/status.json").read_text())
    assert status["saved_iteration"] == 6


def test_same_seed_gives_the_same_run_and_another_seed_another(milozero, tmp_path):
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = milozero(*PENDULUM, "--num_iters=2", f"--uuid={name}", f"--seed={seed}")
        assert result.returncode == 0, result.stderr
        state = torch.load(tmp_path / f"data/checkpoints/{name}/last.pt", weights_only=True)
        hashes.append(state["agent"]["optimizer"]["parameters"].numpy().tobytes())
    assert hashes[0] == hashes[1] != hashes[2]


def test_compile_without_a_compiler_is_an_error_and_off_by_default(milozero, tmp_path):
    no_compiler = {"PATH": str(tmp_path), "CXX": "nothing"}
    flags = ("--task=train", "--env_id=CartPole", "--eval_episodes=1", "--execution_time=00:00:01")
    result = milozero(*flags, "--compile", env=no_compiler)
    assert result.returncode == 2
    assert "--compile needs a C++ compiler" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()
    default = milozero(*flags, env=no_compiler)
    assert default.returncode == 0, default.stderr
    assert "compiling the update" not in default.stdout


def test_settings_are_written_once(milozero, tmp_path, monkeypatch):
    save, files = Training.save, []

    def look_and_save(run, **how):
        files.append((tmp_path / "data/checkpoints/x/config.yaml").stat().st_ino)
        save(run, **how)

    monkeypatch.setattr(Training, "save", look_and_save)
    assert milozero(*ONE, "--env_id=CartPole", "--save_frequency=1", "--num_iters=3").returncode == 0
    assert len(files) > 1
    assert len(set(files)) == 1  # a file that replaces another one has a new number


def test_picture_never_fails_a_finished_run(milozero, tmp_path, monkeypatch):
    assert milozero(*PENDULUM, "--num_iters=1", "--uuid=pay$$").returncode == 0
    assert imageio.v2.imread(tmp_path / "data/logs/pay$$/learning_curve.png").any()

    def fail(*args):
        raise RuntimeError("latex\nwas not found")

    monkeypatch.setattr("milozero.training.summary.plot_learning_curve", fail)
    result = milozero(*PENDULUM, "--num_iters=1", "--uuid=x")
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: cannot draw ")
    assert line.endswith(r"learning_curve.png: RuntimeError: latex\nwas not found")


def test_tilde_is_the_home_folder(milozero, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/task.yaml").write_text("uuid: x\ndata_dir: ~/elsewhere\nenv_id: CartPole\n")
    result = milozero("--task=train", *FAST, "--config=~/task.yaml", "--data_dir=~/data", "--num_iters=1")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"task.yaml", "data"}
    result = milozero("--task=eval", "--data_dir=~/data", "--model_path=~/data/checkpoints/x", "--num_trajs=1")
    assert result.returncode == 0, result.stderr
    assert not list(tmp_path.glob("**/~*"))
