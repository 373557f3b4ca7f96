"""Every command of the README is run by a test, or by whom; flags that the documentation shows are there."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from milozero import spawner
from milozero.experiment.settings import TASKS, config_groups
from milozero.helpers.config.params import build_parser, read_flags
from tests.support import ROOT, readme

BY_HAND = "by hand"
CONTRACT = "test_readme.py::test_contracts_training_and_evaluation_commands_run_as_written"
WANDB = "test_wandb.py::test_run_and_its_files_go_up_and_are_evaluated_from_there"
MUJOCO = "python spawner.py --config tasks/train_mujoco_ppo.yaml"
EVALUATION = "python main.py --task=eval --wandb_project=SOME_NAME"
# How a command begins → the test that runs it.
RUN_BY = {
    "make train": "test_readme.py::test_make_train",
    "make test": f"{BY_HAND}: this is it",
    "mpiexec -n 2 python main.py": "test_readme.py::test_first_training_command",
    "mpiexec -n 3 python main.py": CONTRACT,
    "docker run": f"{BY_HAND}: tests/container.sh, without Docker's daemon",
    f"{MUJOCO} --env_bundle mujoco_small": "test_readme.py::test_first_study_command",
    "python spawner.py --status": "test_readme.py::test_first_study_command",
    "python spawner.py --stop": "test_spawn_tmux.py::test_stop_saves_and_leaves_no_process_and_resubmit_resumes",
    "python spawner.py --resubmit": "test_spawn_tmux.py::test_stop_saves_and_leaves_no_process_and_resubmit_resumes",
    f"{MUJOCO} --env_bundle debug": "test_studies_in_tmux.py::test_contracts_example_runs_as_written",
    "python main.py --task=report": "test_report_in_browser.py::test_report_of_runs_as_they_really_are",
    "WANDB_RUN_PATH=": WANDB,
    f"{EVALUATION} --wandb_run_path": WANDB,
    f"{EVALUATION} --model_path": CONTRACT,
    "python -m venv venv": f"{BY_HAND}: setup_env.sh does the same",
    "source venv/bin/activate": f"{BY_HAND}: setup_env.sh does the same",
    "pip install": f"{BY_HAND}: setup_env.sh does the same",
    "conda": f"{BY_HAND}: needs conda",
    "./setup_env_baobab.sh": "test_cluster_setup.py::test_environment_on_a_cluster",
    "./super_linter.sh": "test_linter.py::test_names_the_files_and_repairs_what_can_be",
    "mkdocs serve": "test_docs.py::test_site_is_built_without_a_warning",
}


def commands(path):
    """Return the commands in a page's blocks of bash, one line each, without comments."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", path.read_text(), flags=re.DOTALL):
        text = re.sub(r"[ ]*\\[ ]*(#[^\n]*)?\n\s*", " ", block)
        found += [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in found if line]


def test_every_command_of_the_readme_is_run_by_a_test():
    for command in commands(readme.README):
        runners = [test for start, test in RUN_BY.items() if command.startswith(start)]
        assert runners, f"no test runs: {command}"
        for runner in runners:
            if not runner.startswith(BY_HAND):
                file, name = runner.split("::")
                (found,) = (path for path in (ROOT / "tests").rglob(file) if f"def {name}(" in path.read_text())
                assert found, runner


@pytest.mark.parametrize("page", [readme.README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_flags_that_the_documentation_shows_are_there(page):
    for command in commands(page):
        for program in ("main.py", "spawner.py"):
            _, named, rest = command.partition(f"python {program} ")
            if not named:
                continue
            words = [word for word in shlex.split(rest) if word not in ("…", "...")]
            words = words[: min([words.index(w) for w in words if w in ("|", ";", "&&")], default=None)]
            algo = next((w.partition("=")[2] for w in words if w.startswith("--algo=")), "ppo")
            groups = {title: cls for task in TASKS for title, (_, cls) in config_groups(task, algo).items()}
            if program == "spawner.py":
                groups = spawner.GROUPS
            read_flags(build_parser(program, "", "", groups), words)


def environment():
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }


def run(command, timeout=200):
    """Run a command to its end, with all that it starts; returns what it printed."""
    how = {"cwd": ROOT, "env": environment(), "text": True, "start_new_session": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how) as process:
        try:
            printed, _ = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, printed
    return printed


def test_make_train(tmp_path):
    """Fewer steps, its data elsewhere, and the environment that the test runs in: nothing is installed."""
    printed = run(["make", "-o", "setup", "train", "STEPS=8192", f"DATA={tmp_path}"])
    for kind in ("learning curve", "video"):
        path = re.search(rf"^{kind}:\s+(.*)$", printed, flags=re.MULTILINE)[1]
        assert Path(path).stat().st_size > 0


def test_first_training_command(tmp_path):
    command = readme.command(
        "mpiexec -n 2 python main.py --task=train", "--num_timesteps=1e6", "--num_timesteps=8192"
    )
    assert "num_timesteps=8192 reached" in run([*command, f"--data_dir={tmp_path}"])


def test_first_study_command(tmp_path):
    command = readme.command(
        "python spawner.py --config tasks/train_mujoco_ppo.yaml --env_bundle mujoco_small", "", ""
    )
    printed = run([*command, "--no-deploy_now", f"--data_dir={tmp_path}"])
    assert "study walkers: 9 jobs; 9 written" in printed
    shown = run([*readme.command("python spawner.py --status walkers", "", ""), f"--data_dir={tmp_path}"])
    assert shown.count("walkers.") >= 9


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
