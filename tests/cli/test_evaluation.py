"""Evaluation from the command line."""

import errno
import functools
import json
import re
import shutil
import signal

import imageio.v2
import numpy as np
import pytest
import torch
from imageio_ffmpeg import count_frames_and_secs

from milozero.demonstrations import dataset as demos
from milozero.experiment import checkpoint
from milozero.experiment.watchdog import Watchdog
from milozero.tracking.csv import read_progress
from milozero.training.run import Training
from tests.support.one_run import ABORTING, ENDLESS, FAST, ONE


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
        _, seconds = count_frames_and_secs(str(folder / f"episode_{k:03}.mp4"))
        assert seconds == pytest.approx(len(frames) / 50, abs=0.02)  # 50 frames per second, as CartPole declares
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
    assert "iter_4-2/results.json" in second.stdout
    assert "*.mp4" not in second.stdout + third.stdout
    assert "*.h5" not in second.stdout
    results = json.loads((folder / "demos/results.json").read_text())
    assert (results["checkpoint"], results["iteration"], results["experiment"]) == ("iter_4.pt", 4, "run")
    assert (results["algo"], results["seed"]) == ("ppo", 0)
    assert re.fullmatch(r"[0-9a-f]{7}\+?", results["git_sha"])
    assert {"command", "torch_version", "gymnasium_version", "envpool_version"} <= set(results)


def test_evaluation_that_fails_leaves_no_empty_folder(milozero, tmp_path):
    environment = "--env_id=tests.support.user_envs:NonFinite-v0"  # NaN in the 100th step
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


def test_evaluation_cuts_off_episodes_of_an_environment_without_a_time_limit(milozero, tmp_path):
    result = milozero("--task=train", *ENDLESS, "--eval_episodes=2", "--eval_max_steps=30")
    assert result.returncode == 0, result.stderr
    assert "has no time limit: evaluations cut off episodes after 30 steps (--eval_max_steps)" in result.stdout
    assert "evaluation: 2 of 2 episodes cut off after 30 steps" in result.stderr
    evaluate = ("--task=eval", f"--model_path={tmp_path}/data/checkpoints/x", "--num_trajs=1")
    result = milozero(*evaluate, "--save_traj")
    assert "length 30" in result.stdout
    assert "1 of 1 episode cut off after 30 steps" in result.stderr
    assert "length 20" in milozero(*evaluate, "--eval_max_steps=20").stdout


@pytest.mark.parametrize(("ended_by", "used"), [("time", "best"), ("signal", "last")])
def test_run_that_ends_before_its_first_evaluation_can_be_evaluated(milozero, tmp_path, monkeypatch, ended_by, used):
    save = Training.save

    def end(run, **how):
        save(run, **how)
        if ended_by == "signal":
            run.watchdog._receive(signal.SIGTERM)

    flags = (*ONE, "--env_id=tests.support.user_envs:Bounded-v0", "--save_frequency=1", "--num_iters=9")
    with monkeypatch.context() as patch:
        patch.setattr(Training, "save", end)
        if ended_by == "time":
            patch.setattr(Watchdog, "remaining_seconds", lambda self: -1.0)
        result = milozero(*flags)
    assert result.returncode == 0, result.stderr
    assert "stopped: " in result.stdout
    assert ("evaluation return" in result.stdout) == (ended_by == "time")
    last = checkpoint.load(tmp_path / "data/checkpoints/x/last.pt")["counters"]
    assert last["best_eval_return"] == -np.inf  # the resumed run ends as if it had not been evaluated here
    result = milozero("--task=eval", f"--model_path={tmp_path}/data/checkpoints/x", "--num_trajs=1")
    assert result.returncode == 0, result.stderr
    assert f"checkpoints/x/{used}.pt: ppo on" in result.stdout
    assert ("using last.pt" in result.stdout) == (used == "last")


BOUNDED = (
    *("--task=train", "--env_id=tests.support.user_envs:Bounded-v0", "--num_envs=2", "--rollout_len=64"),
    *("--epochs=1", "--no-compile", "--num_iters=2", "--eval_episodes=3"),
)


SPREAD = ("eval_return", "eval_return_std", "eval_return_min", "eval_return_max")


def read_results(milozero, tmp_path, name, *flags):
    """Evaluate a run; return its ``results.json``."""
    path = f"--model_path={tmp_path}/data/checkpoints/{name}"
    result = milozero("--task=eval", path, "--iter_num=last", "--num_trajs=3", "--eval_name=x", *flags)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "data/evaluations" / name / "x"
    results = json.loads((folder / "results.json").read_text())
    shutil.rmtree(folder)
    return results | {"stdout": result.stdout, "returns": [episode["return"] for episode in results["episodes"]]}


def test_evaluation_runs_new_episodes_unless_episode_seeds_is_training(milozero, tmp_path):
    assert milozero(*BOUNDED, "--uuid=x").returncode == 0
    row = {name: values[-1] for name, values in read_progress(tmp_path / "data/logs/x/progress.csv").items()}
    same = read_results(milozero, tmp_path, "x", "--episode_seeds=training")
    assert [row[name] for name in SPREAD] == [same[f"return_{name}"] for name in ("mean", "std", "min", "max")]
    assert row["eval_return_std"] == pytest.approx(np.std(same["returns"]))
    assert row["eval_return_min"] == min(same["returns"]) < row["eval_return_max"] == max(same["returns"])
    other, again = (read_results(milozero, tmp_path, "x") for _ in range(2))
    assert (same["episode_seeds"], other["episode_seeds"]) == ("training", "test")
    assert "deterministic actions on the episodes of the evaluations during training (seed 0)" in same["stdout"]
    assert "on new episodes, not those of the evaluations during training (seed 0)" in other["stdout"]
    assert other["returns"] == again["returns"]
    saved = read_results(milozero, tmp_path, "x", "--save_traj")
    assert saved["episode_seeds"] == "demonstrations"
    seeds = [episode["seed"] for results in (same, other, saved) for episode in results["episodes"]]
    assert len(set(seeds)) == len(seeds)


def test_stochastic_evaluations_sample_actions_repeatably_and_do_not_disturb_training(milozero, tmp_path):
    runs = {"sampled": ("--eval_stochastic", "--eval_frequency=1"), "plain": ()}
    agents, rows = {}, {}
    for name, flags in runs.items():
        assert milozero(*BOUNDED, f"--uuid={name}", *flags).returncode == 0
        agents[name] = checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt")["agent"]["optimizer"]
        rows[name] = read_progress(tmp_path / f"data/logs/{name}/progress.csv")["eval_return"][-1]
    assert torch.equal(agents["sampled"]["parameters"], agents["plain"]["parameters"])
    assert rows["sampled"] < rows["plain"]  # noise is punished
    sampled = read_results(milozero, tmp_path, "sampled", "--episode_seeds=training")  # as the run was evaluated
    assert (sampled["eval_stochastic"], sampled["return_mean"]) == (True, rows["sampled"])
    assert "sampled actions" in sampled["stdout"]
    plain = read_results(milozero, tmp_path, "sampled", "--episode_seeds=training", "--no-eval_stochastic")
    assert (plain["eval_stochastic"], plain["return_mean"]) == (False, rows["plain"])
    again = read_results(milozero, tmp_path, "plain", "--episode_seeds=training", "--eval_stochastic")
    assert again["returns"] == sampled["returns"]


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
    assert "Aborting-v0 crashes the process (SIGABRT) with --env_kwargs=where=render" in result.stderr
    assert milozero(*flags).returncode == 0
    assert [path.name for path in (tmp_path / "data/evaluations/x").iterdir()] == ["best"]
