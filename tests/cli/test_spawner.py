"""spawner.py without real jobs: plans, errors, resuming."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from milozero import main, spawner
from milozero.environments import bundles
from milozero.studies.commands import resolve_launch
from milozero.studies.config import LaunchConfig
from milozero.studies.launchers.tmux import Tmux
from tests.support import ROOT, programs


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env_bundle=mujoco_smal"], "env_bundle=mujoco_smal: no bundle of that name; did you mean 'mujoco_small'"),
        (["--env_bundle=Hopper,Walkr2d"], "did you mean 'Walker2d"),
        (["--deployment=slrum"], "must be one of tmux, slurm"),
        (["--config=nowhere.yaml"], "cannot read the config file 'nowhere.yaml'"),
        (["--numseeds=3"], "did you mean '--num_seeds'"),
        (["--num_demos", "4", "x"], "expected a whole number"),
        (["--list", "4", "16"], "--num_demos requires --demo_dir, e.g. --demo_dir=data/demos"),
        (["--docker"], "--docker requires --docker_image"),
        (["--docker_image=x"], "--docker_image requires --docker"),
        (["--docker", "--docker_image=x"], "docker is not installed"),
        (["--conda_env=x"], "--conda_env=x: `conda env list` failed"),
        (["--cluster=x.yaml"], "--cluster requires --deployment=slurm"),
        (["--deployment=slurm", "--cluster=x.yaml"], "x.yaml"),
        (["--deployment=slurm"], "sbatch is not installed"),
        (["--wandb_base_url=wandb.ai"], "must start with http:// or https://"),
        (["--wandb_api_key=-"], "the variable WANDB_API_KEY is not set"),
        (["--status=x", "--num_seeds=2"], "--num_seeds has no effect with --status"),
        (["--stop=x"], "no study 'x' in"),
        (["--status=../x"], "--status=../x: must be a name, not a path"),
    ],
)
def test_invalid_command_is_a_one_line_error_and_writes_nothing(studies, flags, message):
    config = [] if flags[0].startswith(("--config", "--status", "--stop")) else [studies.task("")]
    assert message in studies.run(*config, *flags, fails=True, PATH=path_with(studies, "tmux"))
    assert not studies.data.exists()


def path_with(studies, *programs):
    """Return a PATH with only these programs."""
    folder = studies.folder / "programs"
    folder.mkdir()
    for program in programs:
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("docker", "message"),
    [
        (
            "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1",
            "error: --docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\n",
        ),
        ("exit 3", "error: --docker: docker failed with exit code 3\n"),
    ],
)
def test_docker_without_its_daemon_is_refused_before_anything_is_written(studies, docker, message):
    path = path_with(studies, "tmux", "docker")
    with open(f"{path}/docker", "a") as file:
        file.write(docker)
    flags = ("--docker", "--docker_image=x")
    assert studies.run(studies.task(""), *flags, fails=True, PATH=path) == message
    assert not studies.data.exists()


def test_missing_tmux_is_an_error(studies):
    assert "tmux is not installed" in studies.run(studies.task(""), fails=True, PATH=path_with(studies))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--expert_path=x"], "'--expert_path': write --demo_dir, a folder with a folder of demonstrations"),
        (["--p_lr=3"], "'--p_lr': write --set p_lr=VALUE, for all jobs"),
        (["--task=train"], "'--task': all jobs train"),
        (["--set", "p_lrr=1"], "--set p_lrr=1: no setting 'p_lrr'; did you mean 'p_lr'"),
        (["--set", "seed=1"], "--set seed=1: the study sets seed"),
        (["--set", "p_lr"], "--set p_lr: write NAME=VALUE"),
        (["--set", "p_lr=1", "--set", "p_lr=2"], "--set p_lr=2: p_lr is set twice"),
        (["--set", "p_lr=abc"], "--p_lr=abc: expected a number"),
        (["--set", "compile=maybe"], "--set compile=maybe: expected true or false"),
        (["--set", "d_lr=1e-3"], "--d_lr belongs to --algo=gail, --algo=airl and --algo=dac, not to --algo=ppo"),
    ],
)
def test_setting_that_a_study_cannot_have_is_a_one_line_error(studies, flags, message):
    assert message in studies.run(studies.task(""), *flags, fails=True)
    assert not studies.data.exists()


def test_settings_of_the_command_line_replace_those_of_the_task_file(studies):
    task = "p_lr: 1e-4\nenvironments:\n  CartPole:\n    num_envs: 4\n"
    flags = ("--set", "p_lr=1e-3", "num_envs=2", "--set", "compile=yes", "--num_seeds=2", "--env_bundle=CartPole")
    studies.run(studies.task(task), *flags, "--no-deploy_now")
    jobs = json.loads((studies.data / "spawn/study/study.json").read_text())["jobs"].values()
    assert len(jobs) == 2
    for job in jobs:
        settings = job["settings"]
        assert (settings["p_lr"], settings["num_envs"], settings["compile"]) == (1e-3, 2, True)


def test_sweep_does_not_draw_a_setting_of_the_command_line(studies):
    task = "p_lr: [1e-4, 2e-4]\ngamma: [0.9, 0.99]\n"
    sweep = ("--sweep", "--num_trials=2", "--env_bundle=CartPole", "--no-deploy_now")
    studies.run(studies.task(task), *sweep, "--set", "p_lr=1e-3")
    jobs = json.loads((studies.data / "spawn/study/study.json").read_text())["jobs"].values()
    assert sorted((job["settings"]["p_lr"], job["settings"]["gamma"]) for job in jobs) == [(1e-3, 0.9), (1e-3, 0.99)]
    assert "has 2 combinations" in studies.run(
        studies.task(task), "--prefix=b", "--sweep", "--num_trials=3", "--set", "p_lr=1e-3", fails=True
    )


def test_caliber_without_a_cluster_is_mentioned(studies):
    flags = (f"--data_dir={studies.data}", studies.task(""), "--caliber=long", "--no-deploy_now")
    done = programs.call_spawner(studies.folder, *flags, env=studies.env)
    assert (done.returncode, done.stderr) == (0, "warning: --caliber=long has no effect with --deployment=tmux\n")


def test_ignored_settings_of_the_task_file_are_listed(studies):
    output = studies.run(studies.task("env_id: Hopper\nseed: 3\n"), "--no-deploy_now")
    assert "ignored, because the study sets it: env_id, seed" in output


def test_unknown_study_is_an_error_with_suggestions(studies):
    studies.run(studies.task(""), "--prefix=walkers", "--no-deploy_now")
    assert "did you mean 'walkers'" in studies.run("--status=walker", fails=True)
    assert "existing studies: walkers" in studies.run("--status=x", fails=True)


def test_unwritable_folder_is_an_error(studies):
    studies.data.write_text("a file")
    assert "cannot write to" in studies.run(studies.task(""), "--no-deploy_now", fails=True)


def test_damaged_metadata_is_an_error(studies):
    studies.run(studies.task(""), "--prefix=x", "--no-deploy_now")
    (studies.files("x") / "study.json").write_text("{")
    assert re.search("cannot read .*study.json", studies.run("--status=x", fails=True))


def test_study_with_the_name_of_another_is_an_error(studies):
    """A run cannot resume with other settings, except a new length."""
    one = (studies.task("num_iters: 1\n"), "--prefix=x", "--num_workers=1", "--no-deploy_now")
    studies.run(*one)
    script = studies.files("x") / "x.InvertedPendulum-v5.seed00.sh"
    words = shlex.split(re.search("main.py (.*)", script.read_text())[1])  # run the script's command in this process
    assert programs.call(main.main, ROOT, words, studies.env).returncode == 0
    assert "1 written, 1 already finished" in studies.run(*one)
    before = script.read_bytes()
    output = studies.run(studies.task("num_iters: 1\ngamma: 0.5\n"), *one[1:], fails=True)
    assert (
        "x.InvertedPendulum-v5.seed00 was started with gamma=0.99, now gamma=0.5; choose another --prefix" in output
    )
    assert script.read_bytes() == before
    assert "2 written, 0 already finished" in studies.run(studies.task("num_iters: 2\n"), *one[1:])


ONE = ("--prefix=x", "--env_bundle=Hopper", "--num_workers=1", "--num_seeds=1")


@pytest.fixture
def started(monkeypatch):
    """Replace tmux by a fake whose jobs end immediately; returns the names of the jobs that it started."""
    names = []

    def start(self, jobs):
        for job in jobs:
            names.append(job.name)
            yield job.name, "here"

    monkeypatch.setattr(Tmux, "check", lambda self, jobs: None)
    monkeypatch.setattr(Tmux, "start", start)
    monkeypatch.setattr(Tmux, "stop", lambda self, job_ids, timeout: None)
    monkeypatch.setattr(Tmux, "attach_command", lambda self: "")
    return names


def test_status_shows_the_reasons_of_failed_jobs(studies, started):
    studies.run(studies.task(""), *ONE, "--num_seeds=2")
    failed, other = started
    (studies.files("x") / f"{failed}.exit").write_text("2\n")
    (studies.files("x") / f"{failed}.out").write_text("error: no such demonstrations\n")
    (studies.data / "logs" / other).mkdir(parents=True)
    (studies.data / "logs" / other / "status.json").write_text('{"state": "finished", "learned": true}')
    output = [line for line in studies.run("--status=x").splitlines() if line.startswith("x.")]
    assert output == [f"{failed} failed: exit code 2: error: no such demonstrations"]


@pytest.mark.parametrize(("state", "resumable"), [("stopped", True), ("failed", True), ("finished", False)])
def test_stop_shows_how_to_resume_an_unfinished_study(studies, started, state, resumable):
    studies.run(studies.task(""), *ONE)
    logs = studies.data / "logs" / started[0]
    logs.mkdir(parents=True)
    (logs / "status.json").write_text(json.dumps({"state": state, "learned": True}))
    output = studies.run("--stop=x")
    assert f"study x: 1 job: 1 {state}" in output
    assert ("to resume: python spawner.py --resubmit x" in output) == resumable


def test_resubmit_keeps_the_launch_settings_and_metadata_has_no_key(studies, started):
    flags = ("--clear", "--args_method=yaml", "--wandb_entity=me", "--no-deploy_now")
    studies.run(studies.task(""), *ONE, *flags, WANDB_API_KEY="SECRET")
    metadata = studies.files("x") / "study.json"
    before = json.loads(metadata.read_text())["launch"]
    studies.run("--resubmit=x")
    assert len(started) == 1
    assert json.loads(metadata.read_text())["launch"] == before | {"deploy_now": True}
    assert (before["clear"], before["args_method"]) == (True, "yaml")
    assert "SECRET" not in metadata.read_text()


@pytest.mark.parametrize(
    ("deployment", "image", "resolved"),
    [
        ("tmux", "me/milozero:cpu", "me/milozero:cpu"),
        ("slurm", "docker://me/milozero", "docker://me/milozero"),
        ("slurm", "images/the.sif", "FOLDER/images/the.sif"),
    ],
)
def test_path_of_an_image_is_made_absolute_on_a_cluster(tmp_path, monkeypatch, deployment, image, resolved):
    monkeypatch.chdir(tmp_path)
    launch = resolve_launch(LaunchConfig(deployment=deployment, docker=True, docker_image=image))
    assert launch.docker_image == resolved.replace("FOLDER", str(tmp_path))


@pytest.mark.parametrize(("old", "new", "used"), [("old", "new", "new"), ("old", "", "old"), ("", "new", "new")])
def test_resubmit_uses_a_new_key_or_else_the_old_one(studies, started, old, new, used):
    one = (studies.task(""), *ONE, "--wandb_entity=me")
    studies.run(*one, "--no-deploy_now", WANDB_API_KEY=old)
    studies.run("--resubmit=x", WANDB_API_KEY=new)
    assert len(started) == 1
    assert [path.read_text() for path in studies.files("x").glob("*.key")] == [used]


def test_resubmit_without_a_key(studies, started, caplog):
    one = (studies.task(""), *ONE, "--wandb_entity=me")
    studies.run(*one, "--no-deploy_now")
    studies.run("--resubmit=x")
    assert "no Weights & Biases key" in caplog.text
    assert len(started) == 1
    assert not list(studies.files("x").glob("*.key"))


def test_stop_removes_the_keys(studies, started):
    """Also applies to a job whose window was killed."""
    studies.run(studies.task(""), *ONE, "--wandb_entity=me", WANDB_API_KEY="SECRET")
    assert len(list(studies.files("x").glob("*.key"))) == 1
    studies.run("--stop=x")
    assert not list(studies.files("x").glob("*.key"))


def test_status_removes_the_keys_of_finished_runs(studies):
    """This happens if a script is started by hand."""
    studies.run(
        studies.task(""), *ONE, "--wandb_entity=me", "--no-deploy_now", "--num_seeds=2", WANDB_API_KEY="SECRET"
    )
    keys = sorted(studies.files("x").glob("*.key"))
    assert [path.stat().st_mode & 0o777 for path in keys] == [0o600, 0o600]
    logs = studies.data / "logs" / keys[0].stem
    logs.mkdir(parents=True)
    (logs / "status.json").write_text('{"state": "finished", "timesteps": 10000000, "iteration": 1}')
    studies.run("--status=x")
    assert sorted(studies.files("x").glob("*.key")) == keys[1:]


HIDING = """
import os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
sys.argv = [sys.argv[1], "--wandb_api_key=SECRET"]
def execv(program, words):
    print(words[-1], "milozero" in sys.modules, flush=True)
    os._exit(0)
os.execv = execv
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_key_is_hidden_before_anything_is_imported():
    command = [sys.executable, "-c", HIDING, str(ROOT / "spawner.py")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == f"{HIDDEN} False\n"


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").glob("*.yaml")), ids=lambda path: path.stem)
def test_task_file_is_valid_for_its_environments(studies, path):
    bundle = next(name for part, name in BUNDLES_OF.items() if part in path.stem)
    sweep = ["--sweep", "--num_trials=2"] if path.stem.endswith("_hps") else []
    demos = (
        [f"--demo_dir={ROOT / 'data' / 'demos'}", "--num_demos", "4"] if path.stem.endswith(("_gail", "_dac")) else []
    )
    output = studies.run(f"--config={path}", f"--env_bundle={bundle}", "--no-deploy_now", *sweep, *demos)
    jobs = len(bundles.BUNDLES[bundle][1]) * (2 if sweep else 1)
    assert f"{jobs} written" in output


# part of a task file's name → bundle
BUNDLES_OF = {"mujoco": "mujoco_small", "dmc": "dmc_easy", "classic": "classic", "opensim": "opensim_small"}


HIDDEN = "--wandb_api_key=-"


@pytest.mark.parametrize(
    ("argv", "hidden"),
    [
        (["--wandb_api_key=SECRET", "--prefix=x"], [HIDDEN, "--prefix=x"]),
        (["--prefix=x", "--wandb_api_key", "SECRET"], ["--prefix=x", HIDDEN]),
        (
            ["--wandb_api_key", "--clear", "--wandb_api_key=SECRET"],
            ["--wandb_api_key", "--clear", "--wandb_api_key=-"],
        ),
        (["--wandb_api_key=-", "--prefix=x"], None),
        (["--wandb_api_key="], None),
        (["--wandb_api_key"], None),
        (["--wandb_api_key", "--clear"], None),
        (["--prefix=x"], None),
    ],
)
def test_key_in_the_command_moves_to_a_variable(monkeypatch, argv, hidden):
    commands = []
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setattr(os, "execv", lambda program, words: commands.append(words))
    spawner.hide_key(argv)
    assert [words[2:] for words in commands] == ([] if hidden is None else [hidden])
    assert os.environ["WANDB_API_KEY"] == ("SECRET" if hidden else "")
