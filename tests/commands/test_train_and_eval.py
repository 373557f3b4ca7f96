import contextlib
import csv
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import imageio.v2
import numpy as np
import pytest
import readme
import yaml

from helpers import demos
from helpers.metrics import metrics_of

ROOT = Path(__file__).parent.parent.parent
FAST = ("--num_envs=4", "--rollout_len=256", "--no-compile", "--eval_episodes=2", "--num_iters=4")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short Hopper run with two workers, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    command = [shutil.which("mpiexec"), "-n", "2", sys.executable, str(ROOT / "main.py"), "--task=train"]
    command += [*FAST, f"--data_dir={folder}", "--uuid=hop.seed05", "--seed=5", "--save_frequency=2"]
    command += ["--env_id=Hopper", "--batch_norm_all", "--eval_frequency=2"]
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_run_leaves_checkpoints_config_csv_log_and_picture(trained):
    folder, printed = trained
    checkpoints, logs = folder / "checkpoints/hop.seed05", folder / "logs/hop.seed05"
    names = {path.name for path in checkpoints.iterdir()}
    assert names == {"iter_2.pt", "iter_4.pt", "best.pt", "last.pt", "config.yaml", ".lock"}
    names = {path.name for path in logs.iterdir()}
    assert names == {"config.yaml", "progress.csv", "log.txt", "status.json", "learning_curve.png"}
    config = yaml.safe_load((logs / "config.yaml").read_text())
    assert (config["env_id"], config["seed"], config["batch_norm_all"]) == ("Hopper-v5", 5, True)
    assert imageio.v2.imread(logs / "learning_curve.png").std() > 1
    assert "num_iters=4 reached" in printed
    assert "num_iters=4 reached" in (logs / "log.txt").read_text()


def test_csv_has_a_row_an_iteration_with_raw_returns(trained):
    rows = list(csv.DictReader((trained[0] / "logs/hop.seed05/progress.csv").open()))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4]
    assert int(rows[-1]["timesteps"]) == 4 * 2 * 256
    assert float(rows[0]["return_mean"]) > 3  # a Hopper gets about 1 a step; a scaled one would not
    wanted = (
        "steps_per_second time_left policy_loss value_loss kl clip_fraction entropy explained_variance eval_return"
    )
    assert set(wanted.split()) <= set(rows[0])
    assert not rows[0]["eval_return"]
    assert rows[1]["eval_return"]


def test_columns_are_the_documented_metrics(trained):
    """A run that logs anything else fails here; docs/metrics.md is made from the same table."""
    header = (trained[0] / "logs/hop.seed05/progress.csv").read_text().splitlines()[0].split(",")
    assert len(header) == len(set(header))
    assert set(header) == set(metrics_of("ppo"))


def test_evaluation_gives_what_training_reported(trained, milozero):
    folder, _ = trained
    row = list(csv.DictReader((folder / "logs/hop.seed05/progress.csv").open()))[-1]
    path = f"--model_path={folder}/checkpoints/hop.seed05"
    for workers in (0, 2):
        result = milozero("--task=eval", path, "--iter_num=last", "--num_trajs=2", data=folder, workers=workers)
        assert result.returncode == 0, result.stderr
        results = json.loads((folder / "evaluations/hop.seed05/last/results.json").read_text())
        assert results["return_mean"] == float(row["eval_return"])


def test_evaluation_renders_and_keeps_trajectories(trained, milozero, tmp_path):
    path = f"--model_path={trained[0]}/checkpoints/hop.seed05"
    flags = ("--iter_num=4", "--num_trajs=2", "--render", "--save_traj")
    result = milozero(
        "--task=eval", "--wandb_project=SOME_NAME", path, *flags, env={"DISPLAY": "", "WANDB_API_KEY": ""}
    )
    assert result.returncode == 0, result.stderr
    assert "no display: --render writes videos" in result.stdout
    assert "filming 2 episodes; " in result.stdout
    folder = tmp_path / "data/evaluations/hop.seed05/iter_4"
    for k in range(2):
        episode = demos.read_demo(folder / f"episode_{k:03}.h5")
        frames = imageio.v2.mimread(folder / f"episode_{k:03}.mp4", memtest=False)
        assert len(frames) == len(episode) + 1
        assert np.std(frames[-1]) > 10
        assert not np.array_equal(frames[0], frames[-1])
    assert len(demos.read_demos(str(folder), 2)) == 2
    assert any((tmp_path / "data/wandb").iterdir())
    result = milozero("--task=eval", path, "--iter_num=4", "--num_trajs=1", "--save_traj")
    assert "removed 1 episode of an earlier evaluation" in result.stdout
    assert [each.name for each in folder.glob("*.h5")] == ["episode_000.h5"]  # read as those of one policy


def test_how_far_an_episode_is_shows_on_a_terminal_and_nowhere_else(trained, milozero, tmp_path):
    flags = ("--task=eval", f"--model_path={trained[0]}/checkpoints/hop.seed05", "--num_trajs=1")
    terminal, program = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    command = [sys.executable, "main.py", *flags, f"--data_dir={tmp_path}/shown"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=program, env=environment)
    os.close(program)
    shown = b""
    with contextlib.suppress(OSError):  # which ends what a terminal gives
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert process.wait(60) == 0
    assert b"/1000" in shown
    assert b"over 1 episode, " in shown
    assert "/1000" not in milozero(*flags).stdout


@pytest.mark.parametrize("workers", [0, 2])
def test_missing_renderer_is_one_line_and_evaluation_without_video_works(trained, milozero, tmp_path, workers):
    flags = ("--task=eval", f"--model_path={trained[0]}/checkpoints/hop.seed05", "--num_trajs=1")
    result = milozero(*flags, "--record", workers=workers, env={"MUJOCO_GL": "nothing", "DISPLAY": ""}, timeout=30)
    assert result.returncode == 2
    assert result.stderr.count("error: cannot render here") == 1
    assert not (tmp_path / "data").exists()
    assert milozero(*flags, workers=workers, env={"DISPLAY": ""}).returncode == 0


def test_contracts_training_and_evaluation_commands_run_as_written(tmp_path):
    """From the README: the docker part and comments aside, the project's name and the times shortened."""
    train = readme.command("mpiexec -n 3 python main.py", "--execution_time=4-00:00:00", "--execution_time=0:25")
    assert "--num_demos=16" in train
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "WANDB_API_KEY": "",
        "DISPLAY": "",
    }
    for path in ROOT.iterdir():  # the commands' relative paths, in a folder of the test's own
        if path.name not in (".git", "data", ".venv"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/demos").symlink_to(ROOT / "data/demos")

    def run(command):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return done.stdout

    started = time.monotonic()
    printed = run(train)
    assert "execution_time of 25 s used up" in printed
    assert 25 < time.monotonic() - started < 120
    assert "demonstrations: 16" in printed
    config = yaml.safe_load((tmp_path / "data/logs/some_name.seed02/config.yaml").read_text())
    wanted = {"batch_norm_all": True, "p_lr": 1e-4, "p_perception_stack": "mlp_100", "seed": 2, "num_workers": 3}
    assert wanted.items() <= config.items()

    iteration = re.search(r"after (\d+) iterations", printed)[1]
    evaluate = readme.command(
        "python main.py --task=eval --wandb_project=SOME_NAME --model_path", "=620", f"={iteration}"
    )
    evaluate = [
        w.replace("path_to_model/checkpoints/experiment_name", "data/checkpoints/some_name.seed02") for w in evaluate
    ]
    run(evaluate)
    folder = tmp_path / f"data/evaluations/some_name.seed02/iter_{iteration}"
    assert {p.name for p in folder.iterdir()} == {"episode_000.mp4", "episode_000.h5", "results.json"}


@pytest.mark.parametrize("env_id", ["CartPole", "Acrobot", "Hopper-v4", "user_envs:Bounded-v0"])
def test_other_environments_train_and_evaluate(milozero, tmp_path, env_id):
    result = milozero("--task=train", f"--env_id={env_id}", "--uuid=x", *FAST)
    assert result.returncode == 0, result.stderr
    path = f"--model_path={tmp_path}/data/checkpoints/x"
    assert milozero("--task=eval", path, "--num_trajs=1").returncode == 0


@pytest.mark.parametrize(("env_id", "steps", "goal"), [("CartPole", "1e5", 450), ("Pendulum", "3e5", -400)])
def test_small_tasks_are_learned(milozero, env_id, steps, goal):
    more = ("--gamma=0.9", "--p_lr=1e-3", "--v_lr=1e-3") if env_id == "Pendulum" else ()
    flags = (
        f"--env_id={env_id}",
        f"--num_timesteps={steps}",
        "--batch_size=256",
        "--eval_frequency=0",
        "--no-compile",
    )
    result = milozero("--task=train", *flags, *more, timeout=200)
    assert result.returncode == 0, result.stderr
    assert float(re.search(r"evaluation return: last (\S+),", result.stdout)[1]) >= goal


def test_help_answers_in_under_a_second():
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run([sys.executable, ROOT / "main.py", "-h"], capture_output=True, text=True)
        seconds.append(time.monotonic() - started)
        assert done.returncode == 0
    assert min(seconds) < 1.0
    for flag in ("--p_lr", "--iter_num", "--num_timesteps", "--expert_path", "--wandb_project"):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task=train", "--p_lrr=1"], "did you mean '--p_lr'"),
        (["--task=train", "--env_id=Hoper"], "Hopper"),
        (["--task=train", "--cuda"], "no GPU"),
        (["--task=train", "--expert_path=nowhere"], "no such folder"),
        (["--task=train", "--data_dir=/proc/nowhere", "--num_iters=1"], "cannot write"),
        (["--task=eval", "--model_path=nowhere"], "no such folder"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2_and_nothing_is_written(milozero, tmp_path, arguments, message):
    result = (
        milozero(*arguments, env={"CUDA_VISIBLE_DEVICES": ""})
        if "data_dir" not in str(arguments)
        else milozero(
            *arguments,
            data=arguments[1].split("=")[1],
        )
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_compiling_without_a_compiler_is_one_line_and_by_default_left_out(milozero, tmp_path):
    nothing = {"PATH": str(tmp_path), "CXX": "nothing"}
    flags = ("--task=train", "--env_id=CartPole", "--eval_episodes=1", "--execution_time=00:00:02")
    result = milozero(*flags, "--compile", env=nothing)
    assert result.returncode == 2
    assert "--compile needs a C++ compiler" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()
    by_default = milozero(*flags, env=nothing)
    assert by_default.returncode == 0, by_default.stderr
    assert "compiling the update" not in by_default.stdout


def test_existing_experiment_is_refused_and_left_as_it_is(trained, milozero):
    folder, _ = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = milozero("--task=train", "--uuid=hop.seed05", *FAST, data=folder)
    assert result.returncode == 2
    assert "exists already" in result.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_generated_name_tells_what_was_run(milozero, tmp_path):
    assert milozero("--task=train", "--env_id=CartPole", "--seed=7", *FAST).returncode == 0
    (name,) = [path.name for path in (tmp_path / "data/checkpoints").iterdir()]
    assert re.fullmatch(r"[a-z]+_[a-z]+_\d+\.\w+\.CartPole-v1\.ppo\.workers1\.demos00\.seed07", name)


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux shows the live table; apt install tmux")
def test_live_table_is_drawn_on_a_terminal_under_mpiexec(tmp_path):
    socket = f"milozero-{os.getpid()}"
    run = f"mpiexec -n 2 {sys.executable} {ROOT}/main.py --task=train --env_id=CartPole --data_dir={tmp_path} "
    flags = "--num_iters=30 --no-compile --uuid=tty; sleep 60"
    environment = [
        "-e",
        "OMPI_ALLOW_RUN_AS_ROOT=1",
        "-e",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
        "-e",
        f"PATH={os.environ['PATH']}",
    ]
    tmux = ["tmux", "-L", socket]
    subprocess.run([*tmux, "new-session", "-d", "-x", "120", "-y", "40", *environment, run + flags], check=True)
    try:
        for _ in range(240):
            time.sleep(0.5)
            screen = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True).stdout
            if "learning curve:" in screen:
                break
        assert "clip fraction" in screen
        assert "100%" in screen
        assert screen.count("╭") == 1, screen
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
