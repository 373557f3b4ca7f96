"""Runs that are gone on with: from where, by whom, and as what."""

import csv
import signal

import pytest
import torch
from one_run import FOR_EVER, QUICK, SLOW, iterations, parameters, status, wait_for

from helpers import checkpoint


def test_replay_can_be_stopped_and_loses_nothing(started, milozero, tmp_path):
    """A run that was stopped after a while of slow simulation is resumed, and stopped before it is back there."""
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 25)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    saved = status(tmp_path)["saved_iteration"]
    process = started(*SLOW, FOR_EVER, "--resume")
    wait_for(lambda: "played again: 2 of" in (tmp_path / "data/logs/run/log.txt").read_text())
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"played again: {saved} of {saved}" not in stdout
    assert (status(tmp_path)["state"], status(tmp_path)["saved_iteration"]) == ("stopped", saved)
    result = milozero(*SLOW, f"--num_iters={saved + 1}", "--resume")
    assert (
        f"resumed after iteration {saved}, not bit for bit, as now: num_iters {saved + 1} (was 100000)"
        in result.stdout
    )
    assert "not where they were" not in result.stderr
    assert iterations(tmp_path) == list(range(1, saved + 2))


def test_environment_that_its_seed_does_not_determine_is_told(milozero, tmp_path):
    flags = [flag for flag in SLOW if "env_id" not in flag]
    train = (*flags, "--env_id=user_envs:Forgetful-v0")
    assert milozero(*train, "--num_iters=3").returncode == 0
    result = milozero(*train, "--num_iters=4", "--resume")
    assert result.returncode == 0
    assert "the environments are not where they were" in result.stderr


def test_resuming_as_another_program_says_in_what_it_differs(milozero, tmp_path):
    train = ("--task=train", *(flag for flag in QUICK if "compile" not in flag), "--uuid=run")
    assert milozero(*train, "--no-compile", "--num_iters=1").returncode == 0
    for path in (tmp_path / "data/checkpoints/run").glob("*.pt"):
        content = checkpoint.load(path)
        content["config"]["torch_version"] = "1.0"
        content["config"]["compiled"] = True
        checkpoint.save(path, content)
    result = milozero(*train, "--num_iters=2", "--resume", "--no-compile")
    assert result.returncode == 0, result.stderr
    assert "not bit for bit, as now: num_iters 2 (was 1), compiled False (was True), torch_version" in result.stdout


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2), (2, 3)])
def test_other_number_of_workers_goes_on_and_says_so(milozero, tmp_path, before, after):
    train = ("--task=train", *QUICK, "--uuid=run", "--seed=1")
    assert milozero(*train, "--num_iters=3", workers=before).returncode == 0
    result = milozero(*train, "--num_iters=6", "--resume", workers=after)
    assert result.returncode == 0, result.stderr
    change = f"workers {after or 1} (was {before or 1}), num_iters 6 (was 3)"
    assert f"resumed after iteration 3, not bit for bit, as now: {change}" in result.stdout
    assert "not bit for bit" in (tmp_path / "data/logs/run/log.txt").read_text()
    rows = list(csv.DictReader((tmp_path / "data/logs/run/progress.csv").read_text().splitlines()))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert int(rows[-1]["timesteps"]) == 3 * 128 * (max(before, 1) + max(after, 1))


def test_damaged_newest_checkpoint_is_passed_over_with_a_warning(milozero, tmp_path):
    train = ("--task=train", *QUICK, "--uuid=run", "--save_frequency=2")
    assert milozero(*train, "--num_iters=6").returncode == 0
    whole = parameters(tmp_path)
    for name in ("last.pt", "iter_6.pt"):
        path = tmp_path / "data/checkpoints/run" / name
        path.write_bytes(path.read_bytes()[:-1000])
    result = milozero(*train, "--num_iters=6", "--resume")
    assert result.returncode == 0
    assert result.stderr.count("warning: passed over:") == 2
    assert "resumed after iteration 4, as if it had never stopped" in result.stdout
    assert torch.equal(parameters(tmp_path), whole)


def test_only_the_newest_checkpoints_are_kept(milozero, tmp_path):
    flags = ("--uuid=run", "--save_frequency=1", "--keep_checkpoints=2", "--num_iters=7")
    assert milozero("--task=train", *QUICK, *flags).returncode == 0
    assert checkpoint.available(tmp_path / "data/checkpoints/run") == ["6", "7", "best", "last"]


def test_checkpoint_of_the_first_layout_is_played_and_gone_on_from(milozero, tmp_path):
    train = ("--task=train", *QUICK, "--uuid=run")
    assert milozero(*train, "--num_iters=2").returncode == 0
    for path in (tmp_path / "data/checkpoints/run").glob("*.pt"):
        content = checkpoint.load(path) | {"version": 1, "random_states": [{}]}
        del content["workers"], content["config"]["keep_checkpoints"], content["config"]["run_id"]
        optimizer = content["agent"]["optimizer"]
        optimizer["steps"] = torch.tensor(float(optimizer["steps"]))
        torch.save(content, path)
    result = milozero("--task=eval", f"--model_path={tmp_path}/data/checkpoints/run", "--num_trajs=1")
    assert result.returncode == 0, result.stderr
    result = milozero(*train, "--num_iters=4", "--resume")
    assert result.returncode == 0, result.stderr
    assert "resumed after iteration 2, not bit for bit" in result.stdout


def test_finished_run_is_left_as_it_is(milozero, tmp_path):
    train = ("--task=train", *QUICK, "--uuid=run", "--num_iters=2")
    assert milozero(*train).returncode == 0
    before = parameters(tmp_path)
    result = milozero("--task=train", "--resume", "--uuid=run")
    assert result.returncode == 0, result.stderr
    assert "finished: num_iters=2 reached" in result.stdout
    assert torch.equal(parameters(tmp_path), before)
    assert status(tmp_path)["state"] == "finished"
    longer = milozero("--task=train", "--resume=auto", "--uuid=run", "--num_iters=3")
    assert "finished: num_iters=3 reached" in longer.stdout
    assert iterations(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs --uuid"),
        (["--resume", "--uuid=nowhere"], "there is no experiment"),
        (["--resume", "--uuid=run", "--p_lr=0.5"], "--p_lr=0.5, but the run that is resumed has 0.0003"),
        (
            ["--resume", "--uuid=run", "--env_id=Hopper"],
            "--env_id=Hopper-v5, but the run that is resumed has CartPole",
        ),
        (["--resume=maybe", "--uuid=run"], "must be one of no, yes, auto"),
        (["--uuid=run"], "exists already"),
    ],
)
def test_wrong_way_to_resume_is_one_line_and_changes_nothing(milozero, tmp_path, arguments, message):
    assert milozero("--task=train", *QUICK, "--uuid=run", "--num_iters=1").returncode == 0
    before = parameters(tmp_path)
    result = milozero("--task=train", *arguments)
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert message in line
    assert torch.equal(parameters(tmp_path), before)
    assert not (tmp_path / "data/checkpoints/nowhere").exists()


def test_two_runs_cannot_share_an_experiment(started, milozero, tmp_path):
    process = started(*SLOW, FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 1)
    result = milozero(*SLOW, FOR_EVER, "--resume=auto")
    assert result.returncode == 2
    assert f"in use by process {process.pid}" in result.stderr
    assert process.poll() is None


def test_weights_and_biases_goes_on_with_the_same_run(milozero, tmp_path):
    offline = {"WANDB_API_KEY": "", "WANDB_MODE": "offline"}
    train = ("--task=train", *QUICK, "--uuid=run", "--wandb_project=p")
    assert milozero(*train, "--num_iters=1", env=offline).returncode == 0
    assert milozero(*train, "--num_iters=2", "--resume", env=offline).returncode == 0
    runs = [path.name.split("-")[-1] for path in (tmp_path / "data/wandb").glob("offline-run-*")]
    assert len(runs) == 2
    assert len(set(runs)) == 1
