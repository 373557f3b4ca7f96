"""Resuming runs: from which checkpoint, with which settings, and how exactly."""

import json
import shutil
import signal

import pytest
import torch

from milozero.agents import AGENTS
from milozero.experiment import checkpoint
from milozero.experiment.status import read_status
from milozero.helpers import files
from milozero.training.run import Training
from tests.support import ROOT
from tests.support.one_run import OFF_POLICY, QUICK, SLOW, assert_equal, iterations, logged_rows, parameters, status

DEMOS = (f"--expert_path={ROOT / 'data/demos/Hopper-v3'}", "--num_demos=2", "--demo_subsampling=5")
TEACHERS = {
    **dict.fromkeys(("bc", "gail", "airl"), DEMOS),
    **dict.fromkeys(("sac", "td3"), (*OFF_POLICY, "--buffer_size=1000")),
    **dict.fromkeys(("dac", "sqil", "iq"), (*OFF_POLICY, "--buffer_size=1000", *DEMOS)),
    "dagger": ("--expert_model=data/checkpoints/expert", "--expert_iter_num=last", "--dagger_buffer_size=600"),
}


def test_resuming_with_a_nondeterministic_environment_warns(milozero, tmp_path):
    flags = [flag for flag in SLOW if "env_id" not in flag]
    train = (*flags, "--env_id=tests.support.user_envs:Forgetful-v0")
    assert milozero(*train, "--num_iters=3").returncode == 0
    result = milozero(*train, "--num_iters=4", "--resume")
    assert result.returncode == 0
    assert "not bit-exact: new episodes start, because the same actions led to other steps" in result.stderr


def test_resuming_with_other_versions_reports_the_differences(milozero, tmp_path):
    train = ("--task=train", *(flag for flag in QUICK if "compile" not in flag), "--uuid=run")
    assert milozero(*train, "--no-compile", "--num_iters=1").returncode == 0
    for path in (tmp_path / "data/checkpoints/run").glob("*.pt"):
        content = checkpoint.load(path)
        content["config"]["torch_version"] = "1.0"
        content["config"]["compiled"] = True
        path.write_bytes(checkpoint.to_bytes(content))
    result = milozero(*train, "--num_iters=2", "--resume", "--no-compile")
    assert result.returncode == 0, result.stderr
    assert "not bit-exact: num_iters 2 (was 1), compiled False (was True), torch_version" in result.stdout


def test_damaged_newest_checkpoint_is_skipped_with_a_warning(milozero, run, tmp_path):
    before = parameters(tmp_path)
    for name in ("last.pt", "iter_6.pt"):
        path = tmp_path / "data/checkpoints/run" / name
        path.write_bytes(path.read_bytes()[:-1000])
    result = milozero(*run, "--resume")
    assert result.returncode == 0
    assert result.stderr.count("warning: skipped:") == 2
    assert "resuming after iteration 4, bit-exact" in result.stdout
    assert torch.equal(parameters(tmp_path), before)


def test_first_iteration_is_saved_so_that_a_run_killed_early_resumes_exactly(milozero, tmp_path, monkeypatch):
    save = Training.save

    def save_and_copy(run, **options):
        save(run, **options)
        if run.counters.iteration == 1:
            shutil.copy(run.experiment.checkpoints / "last.pt", tmp_path / "first.pt")

    monkeypatch.setattr(Training, "save", save_and_copy)
    flags = ("--task=train", *QUICK, "--num_iters=3")
    for name in ("uninterrupted", "killed"):
        assert milozero(*flags, f"--uuid={name}").returncode == 0
    checkpoints = tmp_path / "data/checkpoints"
    assert {path.name for path in (checkpoints / "killed").glob("iter_*")} == {"iter_3.pt"}
    (checkpoints / "killed/iter_3.pt").unlink()  # as after a kill in iteration 2 or 3
    shutil.copy(tmp_path / "first.pt", checkpoints / "killed/last.pt")
    result = milozero(*flags, "--uuid=killed", "--resume")
    assert "resuming after iteration 1, bit-exact" in result.stdout
    uninterrupted, killed = (checkpoint.load(checkpoints / name / "last.pt") for name in ("uninterrupted", "killed"))
    assert_equal(killed["agent"], uninterrupted["agent"])
    assert logged_rows(tmp_path, "killed") == logged_rows(tmp_path, "uninterrupted")


@pytest.mark.parametrize(("saved", "remedy"), [(True, "--resume"), (False, "--resume=auto")])
def test_killed_run_is_named_as_such_and_the_suggested_flag_continues_it(milozero, run, tmp_path, saved, remedy):
    path = tmp_path / "data/logs/run/status.json"
    path.write_text(path.read_text().replace('"finished"', '"running"'))  # its lock is free
    for file in () if saved else list((tmp_path / "data/checkpoints/run").glob("*.pt")):
        file.unlink()
    result = milozero(*run)
    assert result.returncode == 2
    assert "state: killed" in result.stderr
    assert f"add {remedy}{',' if saved else ' to start over,'}" in result.stderr
    assert status(tmp_path)["state"] == "killed"
    assert milozero(*run, remedy).returncode == 0
    assert status(tmp_path)["state"] == "finished"


def test_status_names_each_checkpoint_as_soon_as_it_is_written(milozero, monkeypatch, tmp_path):
    save, seen = Training.save, []

    def save_and_read_status(run, **options):
        save(run, **options)
        seen.append((run.counters.iteration, status(tmp_path)["saved_iteration"]))

    monkeypatch.setattr(Training, "save", save_and_read_status)
    assert milozero("--task=train", *QUICK, "--uuid=run", "--save_frequency=1", "--num_iters=3").returncode == 0
    assert seen[:2] == [(1, 1), (2, 2)]


def test_only_the_newest_checkpoints_are_kept(milozero, tmp_path):
    flags = ("--uuid=run", "--save_frequency=1", "--keep_checkpoints=2", "--num_iters=7")
    assert milozero("--task=train", *QUICK, *flags).returncode == 0
    assert checkpoint.list_checkpoints(tmp_path / "data/checkpoints/run") == ["6", "7", "best", "last"]


def test_checkpoints_of_an_older_layout_are_refused_and_kept(milozero, run, tmp_path, monkeypatch):
    paths = list((tmp_path / "data/checkpoints/run").glob("*.pt"))
    with monkeypatch.context() as patch:
        for path in paths:
            content = checkpoint.load(path)
            patch.setattr(checkpoint, "LAYOUT_VERSION", 2)
            path.write_bytes(checkpoint.to_bytes({name: content[name] for name in checkpoint.PARTS}))
            patch.undo()
    before = [path.read_bytes() for path in paths]
    for command in (["--task=eval", f"--model_path={tmp_path}/data/checkpoints/run"], [*run, "--resume"]):
        result = milozero(*command)
        assert result.returncode == 2
        assert "has layout 2, of an older MiloZero" in result.stderr + result.stdout
    assert [path.read_bytes() for path in paths] == before


def refuse_to_build(*_):
    raise AssertionError("built an environment")


def modification_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_resuming_a_finished_run_changes_nothing(milozero, run, tmp_path, monkeypatch):
    before = modification_times(tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr("milozero.training.build.open_envs", refuse_to_build)
        for flags in (["--resume"], ["--resume=auto", *run[1:]], ["--resume", "--num_iters=5"]):
            result = milozero("--task=train", "--uuid=run", *flags)
            assert (result.returncode, result.stderr) == (0, "")
            (line,) = result.stdout.splitlines()
            assert line.startswith("experiment run is finished: num_iters=")
            assert line.endswith(" reached after 6 iterations, 768 steps; raise this limit to train it longer")
    assert modification_times(tmp_path / "data") == before
    longer = milozero("--task=train", "--resume=auto", "--uuid=run", "--num_iters=7")
    assert "finished: num_iters=7 reached" in longer.stdout
    assert iterations(tmp_path) == [1, 2, 3, 4, 5, 6, 7]


def test_run_that_stopped_early_is_finished_until_its_patience_is_raised(milozero, tmp_path, monkeypatch):
    patient = ("--task=train", "--algo=bc", "--env_id=Hopper", "--uuid=run", *DEMOS, "--no-compile")
    patient += ("--num_envs=4", "--rollout_len=64", "--eval_episodes=0", "--epochs=1", "--p_lr=0.0")
    result = milozero(*patient, "--num_iters=9", "--bc_patience=1")
    assert "finished: the validation loss has not improved" in result.stdout, result.stderr
    with monkeypatch.context() as patch:
        patch.setattr("milozero.training.build.open_envs", refuse_to_build)
        again = milozero(*patient, "--num_iters=9", "--bc_patience=1", "--resume")
    assert "experiment run is finished: the validation loss has not improved for bc_patience=1" in again.stdout
    before = len(iterations(tmp_path))
    assert milozero(*patient, "--num_iters=9", "--bc_patience=3", "--resume").returncode == 0
    assert len(iterations(tmp_path)) > before


def test_status_says_whether_a_killed_run_can_be_resumed(milozero, tmp_path, monkeypatch):
    """Copy the files after each one that a run writes, as a kill would leave them, and resume each copy."""
    write, copies = files.write_atomically, []

    def write_and_copy(path, *args):
        write(path, *args)
        if (tmp_path / "data/logs/run/status.json").exists():
            copies.append(tmp_path / f"copy{len(copies)}")
            shutil.copytree(tmp_path / "data", copies[-1])

    flags = ("--task=train", *QUICK, "--uuid=run", "--num_iters=1")
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", write_and_copy)
        assert milozero(*flags).returncode == 0
    written = [json.loads((copy / "logs/run/status.json").read_text())["resumable"] for copy in copies]
    found = [read_status(copy / "logs/run") for copy in copies]
    assert {status["state"] for status in found} == {"killed", "finished"}
    resumable = [milozero(*flags, "--resume", data=copy).returncode == 0 for copy in copies]
    assert [status["resumable"] for status in found] == resumable
    assert resumable[:2] == [False, True]
    assert written[:3] == [False, False, True]  # the second copy is of a run killed before it wrote its status


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs --uuid"),
        (["--resume", "--uuid=nowhere"], "there is no experiment"),
        (
            ["--resume", "--uuid=run", "--p_lr=0.5"],
            "--p_lr=0.5 conflicts with the resumed run, which has --p_lr=0.0003",
        ),
        (
            ["--resume", "--uuid=run", "--env_id=Hopper"],
            "--env_id=Hopper-v5 conflicts with the resumed run, which has --env_id=CartPole",
        ),
        (["--resume=maybe", "--uuid=run"], "must be one of no, yes, auto"),
        (["--uuid=run"], "already exists"),
    ],
)
@pytest.mark.usefixtures("run")
def test_failed_resume_is_one_line_and_changes_nothing(milozero, tmp_path, arguments, message):
    before = parameters(tmp_path)
    result = milozero("--task=train", *arguments)
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert message in line
    assert torch.equal(parameters(tmp_path), before)
    assert not (tmp_path / "data/checkpoints/nowhere").exists()


def test_weights_and_biases_continues_the_same_run(milozero, tmp_path):
    offline = {"WANDB_API_KEY": "", "WANDB_MODE": "offline"}
    train = ("--task=train", *QUICK, "--uuid=run", "--wandb_project=p")
    assert milozero(*train, "--num_iters=1", env=offline).returncode == 0
    assert milozero(*train, "--num_iters=2", "--resume", env=offline).returncode == 0
    runs = [path.name.split("-")[3] for path in (tmp_path / "data/wandb").glob("offline-run-*")]
    assert len(runs) == 2
    assert len(set(runs)) == 1


@pytest.mark.usefixtures("run")
def test_config_of_a_run_repeats_it(milozero, tmp_path):
    result = milozero(f"--config={tmp_path / 'data/logs/run/config.yaml'}", "--uuid=again")
    assert result.returncode == 0, result.stderr
    assert_equal(parameters(tmp_path, "again"), parameters(tmp_path, "run"))
    assert logged_rows(tmp_path, "again") == logged_rows(tmp_path, "run")


@pytest.mark.parametrize("algo", sorted(AGENTS))
def test_killed_and_resumed_run_ends_with_the_same_bits(milozero, tmp_path, algo):
    """Simulate a kill in iteration 4: the newest checkpoint is of iteration 2, and iteration 3 was logged."""
    flags = ("--task=train", "--num_iters=5", "--num_envs=4", "--rollout_len=128", "--batch_size=32")
    flags += ("--epochs=2",) * ("--train_freq=32" not in TEACHERS.get(algo, ()))
    flags += (f"--algo={algo}", "--save_frequency=2", "--eval_frequency=2", "--eval_episodes=1", "--no-compile")
    flags += ("--env_id=Hopper", *TEACHERS.get(algo, ()))
    if algo == "dagger":
        teach = (
            "--task=train",
            "--env_id=Hopper",
            "--num_iters=1",
            "--rollout_len=128",
            "--no-compile",
            "--uuid=expert",
        )
        assert milozero(*teach).returncode == 0
    for name in ("uninterrupted", "resumed"):
        result = milozero(*flags, f"--uuid={name}")
        assert result.returncode == 0, result.stderr
    for name in ("iter_4.pt", "iter_5.pt", "last.pt"):
        (tmp_path / "data/checkpoints/resumed" / name).unlink()
    log = tmp_path / "data/logs/resumed/progress.csv"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:4]))
    result = milozero(*flags, "--uuid=resumed", "--resume")
    assert "resuming after iteration 2, bit-exact" in result.stdout
    uninterrupted, resumed = (
        checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt") for name in ("uninterrupted", "resumed")
    )
    assert_equal(resumed["agent"], uninterrupted["agent"])
    assert_equal(resumed["workers"], uninterrupted["workers"])
    assert logged_rows(tmp_path, "resumed") == logged_rows(tmp_path, "uninterrupted")


@pytest.mark.parametrize("last", [4, 5])  # an evaluation amid the run, and the final one
def test_run_interrupted_in_an_evaluation_evaluates_when_it_is_resumed(milozero, tmp_path, monkeypatch, last):
    flags = ("--task=train", *QUICK, "--num_iters=5", "--eval_frequency=4", "--save_frequency=3")
    assert milozero(*flags, "--uuid=whole").returncode == 0
    evaluate, saved = Training.evaluate, []

    def interrupted(run):
        if run.counters.iteration == last:
            saved.append(checkpoint.load(run.experiment.checkpoints / "last.pt")["counters"]["iteration"])
            run.watchdog._receive(signal.SIGTERM)
        return evaluate(run)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "evaluate", interrupted)
        result = milozero(*flags, "--uuid=parts")
    assert result.returncode == 0, result.stderr
    assert f"stopped: SIGTERM received by worker 0 after {last} iterations" in result.stdout
    assert saved == [last]  # before the evaluation, which may hang
    assert len(logged_rows(tmp_path, "parts")) == last
    result = milozero(*flags, "--uuid=parts", "--resume")
    assert f"resuming after iteration {last}, bit-exact" in result.stdout
    whole, parts = (checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt") for name in ("whole", "parts"))
    for content in (whole, parts):
        del content["config"], content["counters"]["seconds"]
    assert_equal(parts, whole)
    assert logged_rows(tmp_path, "parts") == logged_rows(tmp_path, "whole")


def test_longer_run_continues_after_an_interrupted_final_evaluation(milozero, tmp_path, monkeypatch):
    single = ("--env_id=tests.support.user_envs:Single-v0", "--num_envs=1", "--rollout_len=64", "--batch_size=64")
    flags = ("--task=train", "--epochs=1", "--no-compile", "--eval_episodes=1", "--uuid=run", *single)
    evaluate = Training.evaluate

    def interrupted(run):
        run.watchdog._receive(signal.SIGTERM)
        return evaluate(run)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "evaluate", interrupted)
        assert "stopped: SIGTERM" in milozero(*flags, "--num_iters=2").stdout
    result = milozero(*flags, "--num_iters=4", "--resume")
    assert result.returncode == 0, result.stderr
    assert [row["iteration"] for row in logged_rows(tmp_path, "run")] == ["1", "2", "3", "4"]
