"""Every documented command is run by a test or by hand; documented flags, terms and numbers exist."""

import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from milozero import spawner
from milozero.agents import AGENTS
from milozero.agents.registry import get_metrics
from milozero.environments import registry
from milozero.experiment.settings import TASKS, all_settings_names, config_groups
from milozero.helpers.config.flags import build_parser, read_flags
from milozero.helpers.config.params import declared_settings
from tests.support import ROOT, readme

BY_HAND = "by hand"
CONTRACT = "test_readme.py::test_contracts_training_and_evaluation_commands_run_as_written"
WANDB = "test_wandb.py::test_run_and_its_files_are_uploaded_and_can_be_evaluated_from_there"
STOPPED = "test_spawn_tmux.py::test_stop_saves_and_leaves_no_process_and_resubmit_resumes"
SLURM = "test_spawn_slurm.py::test_study_is_one_array_and_is_not_started_twice"
RECIPES = "test_spawner.py::test_task_file_is_valid_for_its_environments"
STUDY = "python spawner.py --config tasks"
MUJOCO = f"{STUDY}/train_mujoco_ppo.yaml"
TRAINING = "python main.py --task=train"
EVALUATION = "python main.py --task=eval"
# The start of a command → the test that runs it.
RUN_BY = {
    # README, training
    "make train": "test_readme.py::test_make_train",
    f"{TRAINING} --num_workers": "test_readme.py::test_first_training_command",
    f"{TRAINING} --uuid": "test_resuming.py::test_resuming_a_finished_run_changes_nothing",
    "mpiexec -n 2 python main.py": "test_workers.py::test_workers_stay_in_sync_and_shuffle_differently",
    "mpiexec -n 3 python main.py": CONTRACT,
    f"{TRAINING} --algo=bc": "test_demos.py::test_imitation_agent_is_evaluated_without_demonstrations",
    f"{TRAINING} --algo=sac": "test_imitation.py::test_demonstrations_are_part_of_sacs_batches",
    f"{TRAINING} --algo=td3": "test_off_policy.py::test_policy_is_evaluated_and_saved_as_demonstrations",
    f"{TRAINING} --algo=airl": "test_imitation.py::test_new_policy_trains_on_the_reward_that_airl_learned",
    f"{TRAINING} --algo=ppo": "test_imitation.py::test_new_policy_trains_on_the_reward_that_airl_learned",
    f"{TRAINING} --algo=dagger": "test_imitation.py::test_any_checkpoint_can_be_the_expert",
    f"{TRAINING} --env_id": "test_init_from.py::test_run_continues_with_another_schedule",
    f"{TRAINING} --config=tasks/train_mujoco_dac.yaml": "test_imitation.py::test_recipe_of_dac_trains",
    f"{TRAINING} --config": "test_init_from.py::test_cloned_policy_starts_ppo_and_a_resumed_run_needs_no_source",
    f"{TRAINING} --resume": "test_resuming.py::test_killed_and_resumed_run_ends_with_the_same_bits",
    "PYTHONPATH=. python main.py": "test_extending.py::test_documented_environment_trains_and_records_a_video",
    "milozero --task=train": ("test_install.py::test_installed_package_trains_and_its_agent_works_in_a_user_program"),
    "exec mpiexec": "test_slurm.py::test_job_stops_with_a_checkpoint_and_the_next_one_resumes",
    # studies
    f"{MUJOCO} --env_bundle mujoco_small": "test_readme.py::test_first_study_command",
    f"{MUJOCO} --env_bundle debug": "test_studies_in_tmux.py::test_contracts_example_runs_as_written",
    f"{MUJOCO} --deployment slurm --caliber": SLURM,
    f"{MUJOCO} --deployment slurm --docker": "test_spawn_slurm.py::test_image_runs_in_apptainer",
    f"{MUJOCO} --prefix big --deployment slurm": SLURM,
    f"{STUDY}/train_mujoco_gail.yaml": RECIPES,
    f"{STUDY}/train_mujoco_ppo_hps.yaml": RECIPES,
    "python spawner.py --status": "test_readme.py::test_first_study_command",
    "python spawner.py --stop": STOPPED,
    "python spawner.py --resubmit": STOPPED,
    # evaluation, reports, lists
    f"{EVALUATION} --model_path": "test_evaluation.py::test_evaluation_renders_and_keeps_trajectories",
    f"{EVALUATION} --wandb_run_path": WANDB,
    f"{EVALUATION} --wandb_project=SOME_NAME --wandb_run_path": WANDB,
    f"{EVALUATION} --wandb_project=SOME_NAME --model_path": CONTRACT,
    "WANDB_RUN_PATH=": WANDB,
    "wandb sync": "test_wandb.py::test_without_a_key_no_request_is_made_and_sync_uploads_the_run",
    "wandb leet": "test_wandb_faults.py::test_offline_run_can_be_viewed_in_the_terminal",
    "python main.py --task=report": "test_report_in_browser.py::test_report_of_real_runs",
    "python main.py --task=demos": "test_demos.py::test_shipped_demonstrations_are_summarized",
    "python main.py --task=list_envs": "test_suites.py::test_list_envs_shows_one_suite",
    # installation, development
    "./setup_env_baobab.sh": "test_cluster_setup.py::test_script_installs_an_environment_on_a_cluster",
    "./setup_env.sh": f"{BY_HAND}: make train and make test run it",
    "python -m venv venv": f"{BY_HAND}: setup_env.sh does the same",
    'eval "$(activate-global': "test_completion.py::test_shell_completes_flags_and_values",
    "source venv/bin/activate": f"{BY_HAND}: setup_env.sh does the same",
    "source .venv/bin/activate": f"{BY_HAND}: only changes the shell",
    "pip install": f"{BY_HAND}: setup_env.sh does the same",
    "conda": f"{BY_HAND}: needs conda",
    "git clone": f"{BY_HAND}: needs the network",
    "module load": f"{BY_HAND}: needs a cluster's modules",
    "sudo": f"{BY_HAND}: needs root",
    "docker": f"{BY_HAND}: tests/container.sh, without Docker's daemon",
    "apptainer": f"{BY_HAND}: needs Apptainer",
    "./super_linter.sh": "test_linter.py::test_linter_lists_files_to_rework_and_fix_repairs_them",
    "make test": f"{BY_HAND}: this is it",
    "make mutants": f"{BY_HAND}: half an hour",
    ".venv/bin/python -m pytest": f"{BY_HAND}: this is it",
    "python benchmarks/": f"{BY_HAND}: hours",
}


def test_every_command_of_the_documentation_is_run_by_a_test():
    commands = [command for page in readme.PAGES for command in readme.commands(page)]
    for command in commands:
        runners = [test for start, test in RUN_BY.items() if command.startswith(start)]
        assert runners, f"no test runs: {command}"
        for runner in runners:
            if not runner.startswith(BY_HAND):
                file, name = runner.split("::")
                (path,) = (path for path in (ROOT / "tests").rglob(file) if f"def {name}(" in path.read_text())
                assert path, runner
    unused = [start for start in RUN_BY if not any(command.startswith(start) for command in commands)]
    assert not unused, "no page shows these"


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda path: path.name)
def test_documented_flags_exist(page):
    for command in readme.commands(page):
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


def test_flags_and_metrics_of_the_glossary_exist():
    known = all_settings_names()
    known |= {name for cls in spawner.GROUPS.values() for name in declared_settings(cls)}
    metrics = set().union(*(get_metrics(algo) for algo in AGENTS))
    lines = (ROOT / "docs/glossary.md").read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and not line.endswith("| MiloZero |")]
    assert len(rows) > 60
    theirs = set(re.findall(r"`([a-z_]+)", " ".join(left for left, _ in rows)))
    for _, ours in rows:
        assert set(re.findall(r"`(?:spawner\.py )?--(\w+)", ours)) <= known, ours
        assert set(re.findall(r"`([a-z_]+)`", ours)) - theirs <= metrics, ours


def test_numbers_of_the_readme_come_from_the_benchmarks():
    text = " ".join(readme.README.read_text().split())
    results = {path.stem: json.loads(path.read_text()) for path in (ROOT / "benchmarks/results").glob("*.json")}
    hopper, cheetah = (results["throughput"][env_id] for env_id in ("Hopper-v5", "HalfCheetah-v5"))
    speeds = [statistics.median(case["steps_per_second"]["MiloZero, 1 worker"]) for case in (hopper, cheetah)]
    assert "{:,.0f} and {:,.0f} steps per second".format(*speeds) in text
    ratios = [case["ratios"]["1 worker / SB3's better"] for case in (hopper, cheetah)]
    assert "{:.1f} (Hopper) and {:.1f} (HalfCheetah) times as fast".format(*ratios) in text
    runs, equal = (sum(row[name] for row in results["torture"]) for name in ("runs", "equal"))
    for page in (text, (ROOT / "docs/reliability.md").read_text()):
        assert f"{equal} of {runs} runs" in page
    returns = {}
    for row in results["imitation"]:
        if (row["method"], row["demos"]) == ("gail", 1):
            returns.setdefault(row["env_id"], []).append(row["return"])
    shares = [100 * statistics.fmean(r) / results["experts"][env_id]["return_mean"] for env_id, r in returns.items()]
    assert f"{min(shares):.0f} to {max(shares):.0f} % of the expert's return" in text
    assert f"{len(results['dmc_parity'])} tasks of DeepMind Control" in text
    opensim = [env_id for env_id in registry.list_env_ids() if env_id.startswith("Osim")]
    assert f"{len(opensim)} of OpenSim" in text


def environment():
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }


def run(command, timeout=500):
    """Run a command and its child processes until they exit; returns the output."""
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
    """With fewer steps, a temporary data folder and this environment: nothing is installed."""
    printed = run(["make", "-o", "setup", "train", "STEPS=8192", f"DATA={tmp_path}"])
    for kind in ("report", "learning curve", "video"):
        path = re.search(rf"^{kind}:\s+(.*)$", printed, flags=re.MULTILINE)[1]
        assert Path(path).stat().st_size > 0


def test_first_training_command(tmp_path):
    command = readme.command(
        "python main.py --task=train --num_workers=2", "--num_timesteps=1e6", "--num_timesteps=8192"
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
    """As documented, except for the docker part, comments, the project's name and shorter times."""
    train = readme.command("mpiexec -n 3 python main.py", "--execution_time=4-00:00:00", "--execution_time=0:25")
    assert "--num_demos=16" in train
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "WANDB_API_KEY": "",
        "DISPLAY": "",
    }
    for path in ROOT.iterdir():  # so that the commands' relative paths work in the test's folder
        if path.name not in (".git", "data", ".venv"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/demos").symlink_to(ROOT / "data/demos")

    def run(command):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = run(train)
    assert "execution_time of 25 s used up" in printed
    assert "demonstrations: 16" in printed
    config = yaml.safe_load((tmp_path / "data/logs/some_name.seed02/config.yaml").read_text())
    wanted = {"batch_norm_all": True, "p_lr": 1e-4, "p_perception_stack": "mlp_100", "seed": 2, "num_workers": 3}
    assert wanted.items() <= config.items()

    iteration = re.search(r"after (\d+) iterations?", printed)[1]
    evaluate = readme.command(
        "python main.py --task=eval --wandb_project=SOME_NAME --model_path", "=620", f"={iteration}"
    )
    evaluate = [
        w.replace("path_to_model/checkpoints/experiment_name", "data/checkpoints/some_name.seed02") for w in evaluate
    ]
    run(evaluate)
    folder = tmp_path / f"data/evaluations/some_name.seed02/iter_{iteration}"
    assert {p.name for p in folder.iterdir()} == {"episode_000.mp4", "episode_000.h5", "results.json"}
