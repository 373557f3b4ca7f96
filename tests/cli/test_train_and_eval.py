"""Training and evaluation from the command line."""

import contextlib
import errno
import functools
import io
import json
import re

import imageio.v2
import numpy as np
import pytest
import torch

from milozero import main
from milozero.demonstrations import dataset as demos
from milozero.tracking.csv import read_progress
from tests.support import ROOT
from tests.support.one_run import PENDULUM

ABORTING = ("--task=train", "--env_id=tests.support.user_envs:Aborting-v0")
FAST = ("--num_envs=4", "--rollout_len=256", "--no-compile", "--eval_episodes=2", "--num_iters=4")


@pytest.mark.parametrize("env_id", ["CartPole", "Acrobot", "Hopper-v4", "tests.support.user_envs:Bounded-v0"])
def test_other_environments_train_and_evaluate(milozero, tmp_path, env_id):
    result = milozero("--task=train", f"--env_id={env_id}", "--uuid=x", *FAST)
    assert result.returncode == 0, result.stderr
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    assert milozero("--task=eval", path, "--num_trajs=1").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task=train", "--p_lrr=1"], "did you mean '--p_lr'"),
        (["--task=train", "--env_id=Hoper"], "Hopper"),
        (["--task=train", "--cuda"], "no GPU is available"),
        (["--task=train", "--expert_path=nowhere"], "no such folder"),
        (["--task=train", "--data_dir=/proc/nowhere", "--num_iters=1"], "cannot write"),
        (["--task=eval", "--model_path=nowhere"], "no such folder"),
        (["--task=eval", "--model_path=~/nowhere"], "/nowhere: no such folder"),
        (["--task=eval", "--model_path=~nobody_at_all/x"], "no home folder ~nobody_at_all; write ./~nobody_at_all/x"),
        ([*ABORTING, "--env_kwargs=where=init"], "ends the whole process (SIGABRT) with --env_kwargs=where=init"),
        ([*ABORTING, "--env_kwargs=where=reset"], "ends the whole process (SIGABRT) with --env_kwargs=where=reset"),
        ([*ABORTING, "--env_kwargs=where=init,how=exit"], "ends the whole process (exit code 7)"),
        (
            ["--task=train", "--env_id=Hopper", "--env_kwargs=render_mode=human"],
            "(SIGABRT) with --env_kwargs=render_mode=human; a window needs a display, and DISPLAY is ''",
        ),
    ],
)
def test_error_is_one_line_and_exit_code_2_and_nothing_is_written(
    milozero, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("DISPLAY", raising=False)
    result = milozero(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


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


@pytest.mark.usefixtures("run")
def test_evaluation_renders_and_keeps_trajectories(milozero, tmp_path):
    path = "--model_path=data/checkpoints/run"
    flags = ("--iter_num=4", "--num_trajs=2", "--render", "--save_traj")
    result = milozero(
        "--task=eval", "--wandb_project=SOME_NAME", path, *flags, env={"DISPLAY": "", "WANDB_API_KEY": ""}
    )
    assert result.returncode == 0, result.stderr
    assert "no display: --render records videos" in result.stdout
    assert "recording 2 episodes; " in result.stdout
    folder = tmp_path / "data/evaluations/run/iter_4"
    for k in range(2):
        episode = demos.read_demo(folder / f"episode_{k:03}.h5")
        frames = imageio.v2.mimread(folder / f"episode_{k:03}.mp4", memtest=False)
        assert len(frames) == len(episode) + 1
        assert np.std(frames[-1]) > 10
        assert not np.array_equal(frames[0], frames[-1])
    assert len(demos.read_demos(str(folder), 2)) == 2
    assert any((tmp_path / "data/wandb").iterdir())


def read_files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("run")
def test_evaluations_do_not_mix(milozero, tmp_path):
    folder = tmp_path / "data/evaluations/run"
    evaluate = functools.partial(milozero, "--task=eval", "--model_path=data/checkpoints/run", "--iter_num=4")
    assert evaluate("--num_trajs=2", "--save_traj").returncode == 0
    (folder / "iter_4/episode_000.mp4").write_bytes(b"a film")  # as --record writes it
    before = read_files(folder)
    assert set(before) == {
        f"iter_4/{name}" for name in ("results.json", "episode_000.h5", "episode_001.h5", "episode_000.mp4")
    }
    second = evaluate("--num_trajs=1", "--seed=7")
    third = evaluate("--num_trajs=1", "--save_traj", "--eval_name=demos")
    assert read_files(folder).items() >= before.items()
    assert {path.name for path in (folder / "iter_4-2").iterdir()} == {"results.json"}
    assert {path.name for path in (folder / "demos").iterdir()} == {"results.json", "episode_000.h5"}
    assert "iter_4-2/*.json" in second.stdout
    assert "*.mp4" not in second.stdout + third.stdout
    assert "*.h5" not in second.stdout
    results = json.loads((folder / "demos/results.json").read_text())
    assert (results["checkpoint"], results["iteration"]) == ("iter_4.pt", 4)


def test_evaluation_that_fails_leaves_no_empty_folder(milozero, tmp_path):
    environment = "--env_id=tests.support.user_envs:Unfinite-v0"  # NaN in the 100th step
    assert milozero("--task=train", environment, "--uuid=x", *FAST, "--num_iters=1").returncode == 0
    result = milozero("--task=eval", f"--model_path={tmp_path}/data/checkpoints/x", "--num_trajs=11")
    assert result.returncode == 1
    assert "NaN or infinite reward" in result.stderr
    assert list((tmp_path / "data/evaluations/x").iterdir()) == []


@pytest.mark.usefixtures("run")
def test_name_of_an_evaluation_is_new_and_no_path(milozero, tmp_path):
    evaluate = functools.partial(milozero, "--task=eval", "--model_path=data/checkpoints/run", "--num_trajs=1")
    assert evaluate("--eval_name=mine").returncode == 0
    before = read_files(tmp_path)
    for name, message in (
        ("mine", "evaluations/run/mine already exists; choose another name"),
        ("../mine", "--eval_name=../mine: must be a name, not a path"),
        ("..", "must be a name, not a path"),
        ("a/", "must be a name, not a path"),
        ("x" * 201, "must be at most 200 bytes long"),
    ):
        result = evaluate(f"--eval_name={name}")
        assert result.returncode == 2
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert read_files(tmp_path) == before


def test_policy_is_evaluated_every_eval_frequency_iterations_and_at_the_end(milozero, tmp_path):
    assert milozero(*PENDULUM, "--num_iters=5", "--eval_frequency=2", "--uuid=x").returncode == 0
    columns = read_progress(tmp_path / "data/logs/x/progress.csv")
    assert columns["iteration"][~np.isnan(columns["eval_return"])].tolist() == [2, 4, 5]


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
    nothing = {"PATH": str(tmp_path), "CXX": "nothing"}
    flags = ("--task=train", "--env_id=CartPole", "--eval_episodes=1", "--execution_time=00:00:01")
    result = milozero(*flags, "--compile", env=nothing)
    assert result.returncode == 2
    assert "--compile needs a C++ compiler" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()
    by_default = milozero(*flags, env=nothing)
    assert by_default.returncode == 0, by_default.stderr
    assert "compiling the update" not in by_default.stdout


def test_help_shows_which_flags_take_a_value(milozero):
    result = milozero("-h")
    assert result.returncode == 0
    assert re.search(r"--rollout_len=\w", result.stdout)
    assert re.search(r"--cuda(?!=)\b", result.stdout)
    assert "--cuda=" not in result.stdout


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


@pytest.mark.usefixtures("run")
def test_evaluation_that_cannot_write_is_one_line(milozero, tmp_path, monkeypatch):
    flags = ("--task=eval", f"--model_path={tmp_path}/data/checkpoints/run", "--num_trajs=1")
    for data in ("/proc/nowhere", str(tmp_path / "file")):
        (tmp_path / "file").write_text("")
        result = milozero(*flags, data=data)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
        assert f"cannot write to {data}/evaluations/run: " in result.stderr

    def write(path, data, skip_if=None):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("milozero.demonstrations.formats.hdf5.write_bytes", write)
    result = milozero(*flags, "--save_traj")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    folder = tmp_path / "data/evaluations/run"
    assert result.stderr == f"error: cannot write to {folder}/best: No space left on device\n"
    assert list(folder.iterdir()) == []
    monkeypatch.setattr("milozero.evaluation.evaluate.write_bytes", write)
    result = milozero(*flags)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)


@pytest.mark.usefixtures("run")
def test_output_that_cannot_encode_a_character_is_complete(tmp_path):
    flags = ["--task=eval", f"--model_path={tmp_path}/data/checkpoints/run", "--num_trajs=1"]
    outputs = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    with contextlib.redirect_stdout(outputs[0]), contextlib.redirect_stderr(outputs[1]):
        assert main.main([*flags, f"--data_dir={tmp_path}/data"]) == 0
        assert main.main(["--task=train", "--uuid=ä/", f"--data_dir={tmp_path}/data"]) == 2
    out, err = (output.buffer.getvalue().decode("ascii") for output in outputs)
    assert r"return 9.00 \xb1 0.00 over 1 episode" in re.sub(r"return [0-9.]+ ", "return 9.00 ", out)
    assert "must be a name, not a path" in err


class FullOutput(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "flags", [("list_envs", "--only=CartPole"), ("demos", f"--expert_path={ROOT}/data/demos/Hopper-v3")]
)
def test_full_disk_behind_stdout_is_one_line(flags, capsys):
    with contextlib.redirect_stdout(FullOutput()):
        assert main.main([f"--task={flags[0]}", *flags[1:]]) == 2
    assert capsys.readouterr().err == "error: cannot write to stdout: No space left on device\n"


def test_film_that_would_end_the_process_is_an_error(milozero, tmp_path):
    assert milozero(*ABORTING, "--uuid=x", *FAST, "--num_iters=1").returncode == 0
    flags = (
        "--task=eval",
        f"--model_path={tmp_path}/data/checkpoints/x",
        "--num_trajs=1",
        "--env_kwargs=where=render",
    )
    result = milozero(*flags, "--record")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "Aborting-v0 ends the whole process (SIGABRT) with --env_kwargs=where=render" in result.stderr
    assert milozero(*flags).returncode == 0
    assert [path.name for path in (tmp_path / "data/evaluations/x").iterdir()] == ["best"]
