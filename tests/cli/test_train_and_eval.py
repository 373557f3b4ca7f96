"""Training and evaluation from the command line."""

import contextlib
import errno
import functools
import io
import json
import re
import shutil
import signal

import imageio.v2
import numpy as np
import pytest
import torch
from imageio_ffmpeg import count_frames_and_secs

from milozero import main
from milozero.demonstrations import dataset as demos
from milozero.experiment import checkpoint
from milozero.experiment.watchdog import Watchdog
from milozero.tracking.csv import read_progress
from milozero.training.run import Training
from tests.support import ROOT, user_envs
from tests.support.fakes import check_events
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
        ([*ABORTING, "--env_kwargs=where=init"], "crashes the process (SIGABRT) with --env_kwargs=where=init"),
        ([*ABORTING, "--env_kwargs=where=reset"], "crashes the process (SIGABRT) with --env_kwargs=where=reset"),
        ([*ABORTING, "--env_kwargs=where=init,how=exit"], "crashes the process (exit code 7)"),
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


def test_policy_is_evaluated_every_eval_frequency_iterations_and_at_the_end(milozero, tmp_path):
    assert milozero(*PENDULUM, "--num_iters=5", "--eval_frequency=2", "--uuid=x").returncode == 0
    columns = read_progress(tmp_path / "data/logs/x/progress.csv")
    assert columns["iteration"][~np.isnan(columns["eval_return"])].tolist() == [2, 4, 5]


ENDLESS = (
    *("--env_id=tests.support.user_envs:Endless-v0", "--num_envs=2", "--rollout_len=64", "--batch_size=64"),
    *("--epochs=1", "--no-compile", "--num_iters=2", "--uuid=x"),
)


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


ONE = ("--task=train", *ENDLESS, "--num_envs=1", "--eval_episodes=1")


@pytest.mark.parametrize("name", ["Counted", "Single"])
def test_environments_are_closed_before_others_open_and_at_the_end(milozero, tmp_path, name):
    env = getattr(user_envs, name)
    result = milozero(*ONE, f"--env_id=tests.support.user_envs:{name}-v0", "--eval_frequency=1")
    assert result.returncode == 0, result.stderr
    assert ("the run is evaluated only at its end" in result.stdout) == (name == "Single")
    returns = read_progress(tmp_path / "data/logs/x/progress.csv")["eval_return"]
    assert np.isfinite(returns).tolist() == [name == "Counted", True]
    assert env.num_open == 0
    result = milozero("--task=eval", f"--model_path={tmp_path}/data/checkpoints/x", "--num_trajs=1")
    assert result.returncode == 0, result.stderr
    assert env.num_open == 0


def test_expert_is_loaded_where_only_one_environment_can_exist(milozero):
    single = (*ONE, "--env_id=tests.support.user_envs:Single-v0", "--uuid=expert")
    assert milozero(*single).returncode == 0
    result = milozero(*single, "--algo=dagger", "--expert_model=data/checkpoints/expert", "--uuid=clone")
    assert result.returncode == 0, result.stderr
    assert user_envs.Single.num_open == 0


def test_more_environments_than_can_exist_are_a_one_line_error(milozero, tmp_path):
    result = milozero(*ONE, "--env_id=tests.support.user_envs:Single-v0", "--num_envs=2")
    assert result.returncode == 2
    assert "only 1 of --num_envs=2 environments can exist at a time: the port is in use" in result.stderr
    assert user_envs.Single.num_open == 0
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("broken", ["step", "reset", "close"])
@pytest.mark.parametrize("task", ["train", "eval"])
def test_environments_of_a_failed_run_are_closed(milozero, tmp_path, monkeypatch, task, broken):
    flags = {
        "train": (*ONE, "--env_id=tests.support.user_envs:Counted-v0"),
        "eval": ("--task=eval", f"--model_path={tmp_path}/data/checkpoints/x", "--num_trajs=1"),
    }
    if task == "eval":
        assert milozero(*flags["train"]).returncode == 0
    intact = getattr(user_envs.Counted, broken)

    def fail(env, *args, **kwargs):
        intact(env, *args, **kwargs)
        raise RuntimeError("broken")

    monkeypatch.setattr(user_envs.Counted, broken, fail)
    result = milozero(*flags[task])
    before_the_run = broken == "reset" or task == "train"  # the check steps the environment before training
    assert result.returncode == (0 if broken == "close" else 2 if before_the_run else 1)
    assert "broken" in result.stderr
    assert user_envs.Counted.num_open == 0


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


def test_help_shows_which_flags_take_a_value(milozero):
    result = milozero("-h")
    assert result.returncode == 0
    assert re.search(r"--rollout_len=\w", result.stdout)
    assert re.search(r"--cuda(?!=)\b", result.stdout)
    assert "--cuda=" not in result.stdout


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
    assert r"return 9.00 \xb1 0.00 (mean \xb1 standard deviation over 1 episode)" in re.sub(
        r"return [0-9.]+ ", "return 9.00 ", out
    )
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
    assert "Aborting-v0 crashes the process (SIGABRT) with --env_kwargs=where=render" in result.stderr
    assert milozero(*flags).returncode == 0
    assert [path.name for path in (tmp_path / "data/evaluations/x").iterdir()] == ["best"]
