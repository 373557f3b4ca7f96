"""spawner.py before anything is started: help, plans, refusals."""

import json
import os
import re
import shlex

import pytest

from milozero import main, spawner
from milozero.environments import bundles
from milozero.studies.launch_config import LaunchConfig
from milozero.studies.launchers.tmux import Tmux
from tests.support import ROOT, programs


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--env_bundle=mujoco_smal"], "env_bundle=mujoco_smal: no bundle of that name; did you mean 'mujoco_small'"),
        (["--env_bundle=Hopper,Walkr2d"], "did you mean 'Walker2d"),
        (["--deployment=slrum"], "must be one of tmux, slurm"),
        (["--config=nowhere.yaml"], "cannot read the config file 'nowhere.yaml'"),
        (["--numseeds=3"], "did you mean '--num_seeds'"),
        (["--num_demos", "4", "x"], "expected a whole number"),
        (["--list", "4", "16"], "--num_demos: of which demonstrations"),
        (["--docker"], "--docker needs --docker_image"),
        (["--docker_image=x"], "--docker_image needs --docker"),
        (["--docker", "--docker_image=x"], "there is no docker on this machine"),
        (["--conda_env=x"], "--conda_env=x: conda cannot be asked"),
        (["--cluster=x.yaml"], "--cluster needs --deployment=slurm"),
        (["--deployment=slurm", "--cluster=x.yaml"], "x.yaml"),
        (["--deployment=slurm"], "there is no sbatch on this machine"),
        (["--wandb_base_url=wandb.ai"], "an address begins with http"),
        (["--wandb_api_key=-"], "the variable WANDB_API_KEY is not set"),
        (["--status=x", "--num_seeds=2"], "--num_seeds has no effect with --status"),
        (["--stop=x"], "there is no study 'x'"),
        (["--status=../x"], "--status=../x: a name, not a path"),
    ],
)
def test_wrong_command_is_one_line_and_writes_nothing(studies, flags, named):
    config = [] if flags[0].startswith(("--config", "--status", "--stop")) else [studies.task("")]
    assert named in studies.run(*config, *flags, fails=True, PATH=only(studies, "tmux"))
    assert not studies.data.exists()


def only(studies, *programs):
    """Return a PATH with these programs and no others."""
    folder = studies.folder / "programs"
    folder.mkdir()
    for program in programs:
        (folder / program).write_text("#!/bin/sh\n")  # nothing here starts it
        (folder / program).chmod(0o755)
    return str(folder)


def test_no_tmux_is_said(studies):
    assert "there is no tmux on this machine" in studies.run(studies.task(""), fails=True, PATH=only(studies))


def test_what_the_task_file_says_in_vain_is_told(studies):
    told = studies.run(studies.task("env_id: Hopper\nseed: 3\n"), "--no-deploy_now")
    assert "without effect here, where the study says it: env_id, seed" in told


def test_unknown_study_is_told_the_nearest(studies):
    studies.run(studies.task(""), "--prefix=walkers", "--no-deploy_now")
    assert "did you mean 'walkers'" in studies.run("--status=walker", fails=True)
    assert "there are walkers" in studies.run("--status=x", fails=True)


def test_study_that_cannot_be_written_is_refused(studies):
    studies.data.write_text("a file")
    assert "cannot write to" in studies.run(studies.task(""), "--no-deploy_now", fails=True)


def test_damaged_record_is_named(studies):
    studies.run(studies.task(""), "--prefix=x", "--no-deploy_now")
    (studies.files("x") / "study.json").write_text("{")
    assert "study.json cannot be read" in studies.run("--status=x", fails=True)


def test_study_under_the_name_of_another_is_refused(studies):
    """A run that has begun cannot go on with other settings; its length may change."""
    one = (studies.task("num_iters: 1\n"), "--prefix=x", "--num_workers=1", "--no-deploy_now")
    studies.run(*one)
    script = studies.files("x") / "x.InvertedPendulum-v5.seed00.sh"
    words = shlex.split(re.search("main.py (.*)", script.read_text())[1])  # as the script does, in this process
    assert programs.call(main.main, ROOT, words, studies.env).returncode == 0
    assert "1 written, 1 finished already" in studies.run(*one)
    before = script.read_bytes()
    told = studies.run(studies.task("num_iters: 1\ngamma: 0.5\n"), *one[1:], fails=True)
    assert "x.InvertedPendulum-v5.seed00 was started with gamma=0.99, now gamma=0.5: choose another --prefix" in told
    assert script.read_bytes() == before
    assert "2 written, 0 finished already" in studies.run(studies.task("num_iters: 2\n"), *one[1:])


ONE = ("--prefix=x", "--env_bundle=Hopper", "--num_workers=1", "--num_seeds=1")


@pytest.fixture
def started(monkeypatch):
    """Have a tmux whose jobs are over at once; returns the names of those that it was given."""
    names = []

    def start(self, jobs):
        for job in jobs:
            names.append(job.name)
            yield job.name, "here"

    monkeypatch.setattr(Tmux, "check", lambda self, jobs: None)
    monkeypatch.setattr(Tmux, "start", start)
    monkeypatch.setattr(Tmux, "stop", lambda self, places, patience: None)
    monkeypatch.setattr(Tmux, "watch", lambda self: "")
    return names


def test_status_says_why_a_job_failed_and_nothing_of_one_that_did_not(studies, started):
    studies.run(studies.task(""), *ONE, "--num_seeds=2")
    failed, other = started
    (studies.files("x") / f"{failed}.exit").write_text("2\n")
    (studies.files("x") / f"{failed}.out").write_text("error: no such demonstrations\n")
    (studies.data / "logs" / other).mkdir(parents=True)
    (studies.data / "logs" / other / "status.json").write_text('{"state": "finished", "learned": true}')
    told = [line for line in studies.run("--status=x").splitlines() if line.startswith("x.")]
    assert told == [f"{failed} failed: exit code 2: error: no such demonstrations"]


@pytest.mark.parametrize(("state", "mark_running"), [("stopped", True), ("failed", True), ("finished", False)])
def test_study_that_was_stopped_is_told_how_it_goes_on_unless_it_has_finished(studies, started, state, mark_running):
    studies.run(studies.task(""), *ONE)
    logs = studies.data / "logs" / started[0]
    logs.mkdir(parents=True)
    (logs / "status.json").write_text(json.dumps({"state": state, "learned": True}))
    told = studies.run("--stop=x")
    assert f"study x: 1 jobs: 1 {state}" in told
    assert ("to go on: python spawner.py --resubmit x" in told) == mark_running


def test_study_goes_on_as_it_was_launched_and_its_record_has_no_key(studies, started):
    how = ("--clear", "--args_method=yaml", "--wandb_entity=me", "--no-deploy_now")
    studies.run(studies.task(""), *ONE, *how, WANDB_API_KEY="SECRET")
    record = studies.files("x") / "study.json"
    before = json.loads(record.read_text())["launch"]
    studies.run("--resubmit=x")
    assert len(started) == 1
    assert json.loads(record.read_text())["launch"] == before | {"deploy_now": True}
    assert (before["clear"], before["args_method"]) == (True, "yaml")
    assert "SECRET" not in record.read_text()


@pytest.mark.parametrize(
    ("deployment", "image", "found"),
    [
        ("tmux", "me/milozero:cpu", "me/milozero:cpu"),
        ("slurm", "docker://me/milozero", "docker://me/milozero"),
        ("slurm", "images/the.sif", "FOLDER/images/the.sif"),
    ],
)
def test_image_on_a_cluster_is_a_path_that_is_found_from_everywhere(tmp_path, monkeypatch, deployment, image, found):
    monkeypatch.chdir(tmp_path)
    launch = spawner.checked(LaunchConfig(deployment=deployment, docker=True, docker_image=image))
    assert launch.docker_image == found.replace("FOLDER", str(tmp_path))


@pytest.mark.parametrize(("then", "now", "used"), [("old", "new", "new"), ("old", "", "old"), ("", "new", "new")])
def test_study_goes_on_with_the_key_that_is_given_or_else_with_its_own(studies, started, then, now, used):
    one = (studies.task(""), *ONE, "--wandb_entity=me")
    studies.run(*one, "--no-deploy_now", WANDB_API_KEY=then)
    studies.run("--resubmit=x", WANDB_API_KEY=now)
    assert len(started) == 1
    assert (studies.files("x") / ".wandb_api_key").read_text() == used


def test_study_without_a_key_goes_on_without_one(studies, started):
    one = (studies.task(""), *ONE, "--wandb_entity=me")
    studies.run(*one, "--no-deploy_now")
    studies.run("--resubmit=x")
    assert len(started) == 1
    assert not (studies.files("x") / ".wandb_api_key").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").glob("*.yaml")), ids=lambda path: path.stem)
def test_task_file_fits_the_environments_it_is_for(studies, path):
    bundle = next(name for part, name in BUNDLES_OF.items() if part in path.stem)
    sweep = ["--sweep", "--num_trials=2"] if path.stem.endswith("_hps") else []
    demos = [f"--demo_dir={ROOT / 'data' / 'demos'}", "--num_demos", "4"] if path.stem.endswith("_gail") else []
    shown = studies.run(f"--config={path}", f"--env_bundle={bundle}", "--no-deploy_now", *sweep, *demos)
    jobs = len(bundles.BUNDLES[bundle][1]) * (2 if sweep else 1)
    assert f"{jobs} written" in shown


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
def test_key_in_the_command_is_handed_on_in_a_variable(monkeypatch, argv, hidden):
    commands = []
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setattr(os, "execv", lambda program, words: commands.append(words))
    spawner.hide_key(argv)
    assert [words[2:] for words in commands] == ([] if hidden is None else [hidden])
    assert os.environ["WANDB_API_KEY"] == ("SECRET" if hidden else "")
