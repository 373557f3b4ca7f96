"""Checkpoints, config.yaml and folders from someone else run no code and do not mix with the user's own."""

import shutil
import sys

import gymnasium
import pytest
import yaml

from milozero.evaluation.loading import load_agent
from milozero.experiment import checkpoint
from milozero.helpers.errors import UserError
from tests.support.one_run import QUICK
from tests.support.studies import SMALL

MODULE = "milozero_payload"
ENV_ID = f"{MODULE}:Payload-v0"
CODE = """
import gymnasium
open(__file__ + ".ran", "w").close()
gymnasium.register("Payload-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=9)
"""
TRAIN = ("--task=train", *QUICK, "--num_iters=1")
EVALUATE = ("--task=eval", "--model_path=data/checkpoints/run", "--num_trajs=1")


@pytest.fixture
def payload(run, monkeypatch, tmp_path):
    """Make the checkpoints and config.yaml of `run` name a module on the import path; yield the file it creates."""
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    write_env_id(tmp_path, ENV_ID)
    yield tmp_path / f"{MODULE}.py.ran"
    sys.modules.pop(MODULE, None)
    gymnasium.registry.pop("Payload-v0", None)


def write_env_id(tmp_path, env_id):
    for path in (tmp_path / "data/checkpoints/run").glob("*.pt"):
        content = checkpoint.load(path)
        content["config"]["env_id"] = env_id
        path.write_bytes(checkpoint.to_bytes(content))
    for path in tmp_path.glob("data/*/run/config.yaml"):
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"env_id": env_id}))


LOADS = {
    "eval": EVALUATE,
    "resume": ("--task=train", "--resume", "--uuid=run", "--num_iters=7"),
    "auto": ("--task=train", "--resume=auto", "--uuid=run", "--num_iters=7"),
    "expert": (*TRAIN, "--algo=dagger", "--expert_model=data/checkpoints/run", "--dagger_buffer_size=600"),
    "init": (*TRAIN, "--init_from=data/checkpoints/run"),
    "reward": (*TRAIN, "--reward_path=data/checkpoints/run", "--reward_iter_num=last"),
}


@pytest.mark.parametrize("flags", LOADS.values(), ids=LOADS)
def test_checkpoint_imports_nothing(milozero, payload, tmp_path, flags):
    before = {path: path.read_bytes() for path in tmp_path.glob("data/*/run/*.*")}
    result = milozero(*flags)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert f"add --env_module={MODULE} if you trust it" in result.stderr
    assert not payload.exists()
    assert {path: path.read_bytes() for path in tmp_path.glob("data/*/run/*.*")} == before


def test_task_file_with_sections_and_report_import_nothing(milozero, payload, tmp_path):
    (tmp_path / "task.yaml").write_text("environments:\n  CartPole:\n    gamma: 0.9\n")
    assert milozero("--config=task.yaml", *LOADS["resume"]).returncode == 2
    assert milozero("--task=report", "--study=run", "--format=csv").returncode == 0
    assert not payload.exists()


def test_resuming_with_another_environment_names_both_and_imports_nothing(milozero, payload):
    result = milozero(*LOADS["resume"], "--env_id=CartPole")
    assert f"--env_id=CartPole-v1 conflicts with the resumed run, which has --env_id={ENV_ID}" in result.stderr
    assert not payload.exists()


def test_spawner_imports_nothing_that_existing_runs_name(studies, payload):
    job = "s.CartPole-v1.seed00"
    (studies.data / "checkpoints" / job).mkdir(parents=True)
    settings = yaml.safe_load(SMALL) | {"env_id": ENV_ID}
    (studies.data / "checkpoints" / job / "config.yaml").write_text(yaml.safe_dump(settings))
    flags = ("--env_bundle=CartPole", "--prefix=s", "--no-deploy_now")
    error = studies.run(studies.task(""), *flags, fails=True)
    assert f"{job} was started with env_id={ENV_ID}, now env_id=CartPole-v1" in error
    assert not payload.exists()


def test_load_agent_imports_nothing(payload, tmp_path):
    with pytest.raises(UserError, match="in Python, import it first"):
        load_agent(tmp_path / "data/checkpoints/run")
    assert not payload.exists()


NAMES = {
    "eval": (*EVALUATE, f"--env_module={MODULE}"),
    "several": (*EVALUATE, f"--env_module=json, {MODULE}"),
    "resume": (*LOADS["resume"], f"--env_module={MODULE}"),
    "env_id": (*LOADS["resume"], f"--env_id={ENV_ID}"),
    "no version": (*LOADS["resume"], f"--env_id={MODULE}:Payload"),
}


@pytest.mark.parametrize("flags", NAMES.values(), ids=NAMES)
def test_module_that_the_user_names_is_imported(milozero, payload, flags):
    result = milozero(*flags)
    assert result.returncode == 0, result.stderr
    assert payload.exists()


def test_task_file_may_name_the_module(milozero, payload, tmp_path):
    (tmp_path / "task.yaml").write_text(f"env_module: {MODULE}\nresume: auto\nuuid: run\nnum_iters: 7\n")
    assert milozero("--config=task.yaml").returncode == 0
    assert payload.exists()


def test_config_of_a_run_imports_nothing(milozero, payload, tmp_path):
    config = tmp_path / "data/logs/run/config.yaml"
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(content | {"env_module": MODULE}))
    result = milozero(f"--config={config}", "--uuid=again")
    assert result.returncode == 2
    assert MODULE in result.stderr
    assert not payload.exists()
    assert milozero(f"--config={config}", "--uuid=again", f"--env_module={MODULE}").returncode == 0
    assert payload.exists()


def test_module_beside_the_checkpoint_is_never_imported(milozero, payload, tmp_path):
    beside = tmp_path / "data/checkpoints/run/beside.py"
    beside.write_text(CODE)
    write_env_id(tmp_path, "data.checkpoints.run.beside:Payload-v0")
    assert milozero(*EVALUATE).returncode == 2
    for flags in (EVALUATE, LOADS["resume"]):
        result = milozero(*flags, "--env_module=data.checkpoints.run.beside")
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert f"{beside} is in --data_dir=" in result.stderr
    assert not list(tmp_path.rglob("beside.py.ran"))


def test_study_imports_only_modules_that_it_names(studies, payload, tmp_path):
    flags = (f"--env_bundle={ENV_ID}", "--prefix=s", "--no-deploy_now")
    assert "1 written" in studies.run(studies.task(""), *flags)
    assert payload.exists()
    (studies.data / "envs.py").write_text(CODE)
    sys.path.insert(0, str(studies.data))
    try:
        error = studies.run(
            studies.task(""), "--env_bundle=envs:Payload-v0", "--prefix=s", "--no-deploy_now", fails=True
        )
    finally:
        sys.path.remove(str(studies.data))
    assert "nothing is imported from there" in error


def files(tmp_path):
    return {path: path.read_bytes() for path in tmp_path.glob("data/*/*/*.*") if path.name != ".lock"}


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "*.pt", "all"])
def test_checkpoints_of_another_run_are_not_adopted(milozero, run, tmp_path, name):
    """The other run has the same environment and observations; only its id differs."""
    assert milozero(*TRAIN, "--uuid=other", "--seed=5", "--num_iters=8", "--save_frequency=2").returncode == 0
    folder, other = (tmp_path / "data/checkpoints" / each for each in ("run", "other"))
    for path in other.glob("*" if name == "all" else name):
        shutil.copyfile(path, folder / path.name)
    before = files(tmp_path)
    for resume in ("--resume", "--resume=auto"):
        result = milozero("--task=train", "--uuid=run", resume, "--num_iters=9")
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert " belongs to another run (CartPole-v1, run " in result.stderr
    assert files(tmp_path) == before


def test_folder_that_was_moved_or_copied_resumes(milozero, run, tmp_path):
    for kind in ("checkpoints", "logs"):
        shutil.copytree(tmp_path / "data" / kind / "run", tmp_path / "data" / kind / "copy")
    result = milozero("--task=train", "--uuid=copy", "--resume", "--num_iters=7")
    assert result.returncode == 0, result.stderr


def test_run_that_starts_over_keeps_its_id_and_its_best_checkpoint(milozero, run, tmp_path):
    """This is the state after a kill between the first evaluation and the first save."""
    folder = tmp_path / "data/checkpoints/run"
    for path in set(folder.glob("*.pt")) - {folder / "best.pt"}:
        path.unlink()
    before = checkpoint.load(folder / "best.pt")["config"]["run_id"]
    for num_iters in (1, 2):
        flags = [flag for flag in run if "num_iters" not in flag]
        assert milozero(*flags, "--resume=auto", f"--num_iters={num_iters}").returncode == 0
    assert {checkpoint.load(path)["config"]["run_id"] for path in folder.glob("*.pt")} == {before}
