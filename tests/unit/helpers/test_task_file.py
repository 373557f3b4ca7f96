"""Task files, and their sections for single environments."""

import pytest
import yaml

from milozero.agents import AGENTS, config_class
from milozero.experiment.command_line import parse
from milozero.helpers.config.task_file import MAX_FILE_BYTES, read_bytes
from milozero.helpers.errors import UserError

FILE = """
meta:
  algo: ppo
hyper_parameters:
  log_std_init: -0.5
  epochs: 10
environments:
  Ant:
    log_std_init: -1
    num_envs: 32
  Hopper-v4:
    epochs: 5
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "task.yaml"
        path.write_text(text)
        return f"--config={path}"

    return to_file


def test_section_of_the_environment_overrides_the_rest(write):
    config = write(FILE)
    ant, hopper = parse([config, "--env_id=Ant-v5"]), parse([config, "--env_id=Hopper"])
    assert (ant.agent.log_std_init, ant.agent.epochs, ant.train.num_envs) == (-1.0, 10, 32)
    assert (hopper.agent.log_std_init, hopper.agent.epochs, hopper.train.num_envs) == (-0.5, 10, 16)  # v5 section
    assert parse([config, "--env_id=Hopper-v4"]).agent.epochs == 5
    assert parse([config, "--env_id=Ant", "--log_std_init=0"]).agent.log_std_init == 0.0  # flags override sections


def test_environment_that_the_file_sets_gets_its_section(write):
    assert parse([write(FILE.replace("algo: ppo", "env_id: Ant"))]).agent.log_std_init == -1.0


def test_choices_of_a_sweep_override_sections(write):
    config = write(FILE.replace("log_std_init: -0.5", "log_std_init: [-0.5, 0]"))
    assert parse([config, "--env_id=Ant"], {"log_std_init": "0"}).agent.log_std_init == 0.0


def test_section_of_a_version_takes_precedence(write):
    config = write(FILE.replace("Ant:", "Hopper:"))
    agents = [parse([config, f"--env_id={env_id}"]).agent for env_id in ("Hopper-v5", "Hopper-v4")]
    assert [(agent.log_std_init, agent.epochs) for agent in agents] == [(-1.0, 10), (-1.0, 5)]


@pytest.mark.parametrize("section", ["dmc:walker-walk", "dmc:walker-walk-v0", "no_such_module:Foo-v0", "OsimL2Run"])
def test_section_of_another_environment_imports_nothing(write, monkeypatch, section):
    if section == "dmc:walker-walk-v0":  # dm_control's names have no version
        with pytest.raises(UserError, match="no environment 'dmc:walker-walk-v0'; did you mean 'dmc:walker-walk'"):
            parse([write(FILE.replace("Hopper-v4", section))])
        return
    monkeypatch.setattr("milozero.environments.dmc.is_installed", lambda: False)
    assert parse([write(FILE.replace("Hopper-v4", section)), "--env_id=Ant"]).agent.log_std_init == -1.0


def test_sections_may_be_empty(write):
    assert parse([write("environments:\n")]).agent.epochs == 10
    assert parse([write("environments:\n  Hopper:\n")]).agent.epochs == 10


def test_resumed_run_gets_the_section_of_its_own_environment(write, tmp_path):
    folder = tmp_path / "checkpoints" / "x"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("env_id: Ant-v5\n")
    again = (write(FILE), "--uuid=x", f"--data_dir={tmp_path}")
    assert parse([*again, "--resume"]).agent.log_std_init == -1.0
    assert parse([*again, "--resume=auto"]).agent.log_std_init == -1.0
    assert parse([*again]).agent.log_std_init == -0.5
    assert parse([*again[:1], "--uuid=y", *again[2:], "--resume=auto"]).agent.log_std_init == -0.5  # no run to resume


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("num_envs", "num_envz"), "unknown parameter 'num_envz' in .*environments: Ant; .* 'num_envs'"),
        (("num_envs: 32", "env_id: Hopper"), "environments: Ant: env_id must be the same for all"),
        (("num_envs: 32", "seed: 3"), "environments: Ant: seed must be the same for all"),
        (("log_std_init: -1\n", "log_std_init: [-1, 0]\n"), "Ant: log_std_init must be one value, not a list"),
        (("Hopper-v4:\n    epochs: 5", "Hopper-v4: 5"), "environments: Hopper-v4 must contain"),
        (("Hopper-v4:", "? [Hopper-v4]\n  :"), "environments: no environment '\\?'"),
        (("Hopper-v4", "Hoper"), "environments: no environment 'Hoper'; did you mean 'Hopper'"),
        (("Hopper-v4", "Ant"), "environments: duplicate section 'Ant'"),
        (("num_envs: 32", "log_std_init: 3"), "duplicate parameter 'log_std_init' in .*environments: Ant"),
        (("environments:", "environments: [Ant, Hopper]\nmore:"), "environments must contain"),
    ],
)
def test_error_in_a_section_is_reported_for_any_environment(write, change, message):
    for env_id in ("Ant", "CartPole"):
        with pytest.raises(UserError, match=message):
            parse([write(FILE.replace(*change)), f"--env_id={env_id}"])


def test_too_large_file_is_refused(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_bytes(b"#" * MAX_FILE_BYTES)
    assert len(read_bytes(str(path))) == MAX_FILE_BYTES
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(UserError, match="is not a task file: it is larger than"):
        read_bytes(str(path))


@pytest.mark.parametrize("algo", AGENTS)
def test_config_of_a_run_is_a_task_file_that_repeats_it(tmp_path, algo):
    flags = [f"--algo={algo}", "--env_id=Hopper", "--seed=3", "--num_workers=2", "--gamma=0.9", "--expert_path=demos"]
    flags = [flag for flag in flags if config_class(algo).LEARNS_FROM_DEMOS or not flag.startswith("--expert_path")]
    flags = [flag for flag in flags if algo not in ("bc", "dagger") or not flag.startswith("--gamma")]
    flags += ["--expert_model=expert"] * (algo == "dagger")
    flat = parse([*flags, "--uuid=first", "--data_dir=/elsewhere", "--resume"]).flat()
    flat["env_module"] = "unknown_module"
    own = {"run_id": "00", "command": "main.py", "git_sha": "0", "compiled": True, "device": "cpu", "x_version": "1"}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(flat | own))
    again = parse([f"--config={file}", "--uuid=second"]).flat()
    changed = {name for name, value in flat.items() if again[name] != value}
    assert changed == {"uuid", "data_dir", "resume", "env_module", "config"}
    assert (again["uuid"], again["data_dir"], again["resume"]) == ("second", "data", "no")


def test_task_file_cannot_contain_what_only_a_run_has(write):
    with pytest.raises(UserError, match="unknown parameter 'git_sha'"):
        parse([write("git_sha: x")])
