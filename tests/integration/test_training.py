"""Training and evaluation with real workers, terminals and variables."""

import contextlib
import csv
import functools
import json
import os
import pty
import shutil
import subprocess
import sys
import time

import imageio.v2
import pytest
import yaml

from milozero.agents.registry import get_metrics
from tests.support import ROOT, programs
from tests.support.fakes import check_events

# Run these in one pytest worker, which trains once.
pytestmark = pytest.mark.xdist_group("hopper")
FAST = ("--num_envs=4", "--rollout_len=256", "--no-compile", "--eval_episodes=2", "--num_iters=4")


@pytest.fixture(scope="module")
def hopper(tmp_path_factory):
    """Train on Hopper briefly with two workers; returns the data folder and stdout."""
    folder = tmp_path_factory.mktemp("trained")
    flags = (
        *FAST,
        "--uuid=hop.seed05",
        "--seed=5",
        "--save_frequency=2",
        "--batch_norm_all",
        "--eval_frequency=2",
        "--tensorboard",
    )
    result = programs.run_main(folder, "--task=train", "--env_id=Hopper", *flags, workers=2, data=folder)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_run_writes_checkpoints_config_csv_log_and_learning_curve(hopper):
    folder, printed = hopper
    checkpoints, logs = folder / "checkpoints/hop.seed05", folder / "logs/hop.seed05"
    names = {path.name for path in checkpoints.iterdir()}
    assert names == {"iter_2.pt", "iter_4.pt", "best.pt", "last.pt", "config.yaml", ".lock"}
    names = {path.name for path in logs.iterdir()}
    assert names == {"config.yaml", "progress.csv", "log.txt", "status.json", "learning_curve.png", "tensorboard"}
    config = yaml.safe_load((logs / "config.yaml").read_text())
    assert (config["env_id"], config["seed"], config["batch_norm_all"]) == ("Hopper-v5", 5, True)
    assert imageio.v2.imread(logs / "learning_curve.png").std() > 1
    assert "num_iters=4 reached" in printed
    assert "num_iters=4 reached" in (logs / "log.txt").read_text()


def test_csv_has_one_row_per_iteration_with_unscaled_returns(hopper):
    rows = list(csv.DictReader((hopper[0] / "logs/hop.seed05/progress.csv").open()))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4]
    assert int(rows[-1]["timesteps"]) == 4 * 2 * 256
    assert float(rows[0]["return_mean"]) > 3  # unscaled rewards are about 1 per step
    columns = "steps_per_second time_left policy_loss value_loss approx_kl clip_fraction entropy explained_variance"
    assert {*columns.split(), "eval_return"} <= set(rows[0])
    assert not rows[0]["eval_return"]
    assert rows[1]["eval_return"]


def test_columns_are_the_documented_metrics(hopper):
    """Fails if a run logs other metrics; docs/metrics.md is generated from the same table."""
    header = (hopper[0] / "logs/hop.seed05/progress.csv").read_text().splitlines()[0].split(",")
    assert len(header) == len(set(header))
    assert set(header) == set(get_metrics("ppo"))


def test_two_workers_write_tensorboards_events_once(hopper):
    logs = hopper[0] / "logs/hop.seed05"
    assert check_events(logs) == [1, 2, 3, 4]
    assert len(list((logs / "tensorboard").iterdir())) == 1


def test_evaluation_reproduces_the_return_of_training(hopper, milozero, in_process):
    folder, _ = hopper
    row = list(csv.DictReader((folder / "logs/hop.seed05/progress.csv").open()))[-1]
    path = f"--model_path={folder}/checkpoints/hop.seed05"
    for name, evaluate in (("last", in_process), ("last-2", functools.partial(milozero, workers=2))):
        flags = ("--task=eval", path, "--iter_num=last", "--num_trajs=2", "--episode_seeds=training")
        result = evaluate(*flags, data=folder)
        assert result.returncode == 0, result.stderr
        results = json.loads((folder / "evaluations/hop.seed05" / name / "results.json").read_text())
        assert results["return_mean"] == float(row["eval_return"])


@pytest.mark.usefixtures("run")
def test_progress_of_an_episode_is_shown_only_on_a_terminal(in_process, tmp_path):
    flags = ("--task=eval", f"--model_path={tmp_path}/data/checkpoints/run", "--num_trajs=1")
    terminal, program = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    command = [sys.executable, "main.py", *flags, f"--data_dir={tmp_path}/shown"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=program, env=environment)
    os.close(program)
    output = b""
    with contextlib.suppress(OSError):  # raised at the end of the output
        while chunk := os.read(terminal, 4096):
            output += chunk
    os.close(terminal)
    assert process.wait(60) == 0
    assert b"/500" in output
    assert b"over 1 episode), " in output
    assert "/500" not in in_process(*flags).stdout


@pytest.mark.alone
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


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux shows the live table; apt install tmux")
def test_live_table_is_drawn_on_a_terminal_under_mpiexec(tmp_path):
    socket = f"milozero-{os.getpid()}"
    run = f"mpiexec -n 2 {sys.executable} {ROOT}/main.py --task=train --env_id=CartPole --data_dir={tmp_path} "
    flags = "--num_envs=4 --rollout_len=128 --num_iters=30 --no-compile --uuid=tty; sleep 60"
    variables = programs.AS_ROOT | {"PATH": os.environ["PATH"]}
    environment = [f"-e{name}={value}" for name, value in variables.items()]
    tmux = ["tmux", "-L", socket]
    subprocess.run([*tmux, "new-session", "-d", "-x", "120", "-y", "40", *environment, run + flags], check=True)
    try:
        for _ in range(600):
            time.sleep(0.1)
            screen = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True).stdout
            if "learning curve:" in screen:
                break
        assert "clip fraction" in screen
        assert "100%" in screen
        assert screen.count("╭") == 1, screen
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
