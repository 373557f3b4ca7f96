"""The command line of main.py, and the task file that it may name."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from milozero import environments
from milozero.agents import AGENTS
from milozero.experiment.checkpoint import read_metadata
from milozero.experiment.settings import (
    TASKS,
    CommonConfig,
    Settings,
    TrainConfig,
    all_settings_names,
    config_groups,
    used_settings,
)
from milozero.experiment.validation import validate
from milozero.helpers.config.completion import complete, find_value
from milozero.helpers.config.flags import build_parser, read_flags
from milozero.helpers.config.params import build, expand_path
from milozero.helpers.config.task_file import TaskFile, read_yaml
from milozero.helpers.config.values import coerce
from milozero.helpers.errors import UserError

DESCRIPTION = "Train and evaluate reinforcement and imitation learning agents, on one worker or on many."
EPILOG = """Examples:
  python main.py --task=train --env_id=Hopper --num_timesteps=1e6
  python main.py --task=train --num_workers=2 --config=tasks/train_mujoco_ppo.yaml --seed=1
  python main.py --task=eval --model_path=data/checkpoints/NAME --iter_num=best --num_trajs=1 --record
  python main.py --task=list_envs --only=dmc
  python main.py --task=demos --expert_path=data/demos/Hopper-v3
  python main.py --task=report --study=walkers

`main.py --algo=gail -h` shows the flags of another algorithm; docs/parameters.md lists all flags."""


def parse(argv: Sequence[str], trial: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of a command line and of the task file that it may name.

    Args:
        argv: the arguments.
        trial: values drawn for a sweep's trial; each replaces a list in the task file.

    Raises:
        UserError: if a setting is unknown, has the wrong type, is out of range, or does not fit the others.
    """
    flags = read_flags(_make_parser(TASKS, tuple(AGENTS), add_help=False), argv)
    if flags.pop("help", False):
        _print_help(flags)
        raise SystemExit(0)
    path = str(flags.get("config", ""))
    file, trial = _read_task_file(path, lists=trial is not None), dict(trial or {})
    if "config" in file.settings:
        raise UserError(f"{path}: config: a task file cannot name another task file")
    given = file.settings | trial | flags
    _import_modules((trial | flags) if file.is_run else given)
    values = file.for_env(_find_env_id(file, given)) | trial
    task, algo = build(CommonConfig, flags, values, path).task, build(TrainConfig, flags, values, path).algo
    _check_owners([*flags, *trial, *file.names()], task, algo)
    groups = config_groups(task, algo)
    explicit = frozenset([*flags, *values])
    settings = Settings(
        **{group: build(cls, flags, values, path) for group, cls in groups.values()}, explicit=explicit
    )
    validate(settings)
    return settings


def complete_line(line: str) -> None:
    """Print the completions of a command line for the shell, and exit.

    Flags of other tasks and algorithms than those that the line already names are not offered.
    """
    task, algo = find_value(line, "task", TASKS), find_value(line, "algo", tuple(AGENTS))
    complete(_make_parser((task,) if task else TASKS, (algo,) if algo else tuple(AGENTS), add_help=False))


@functools.cache
def _make_parser(tasks: tuple[str, ...], algos: tuple[str, ...], *, add_help: bool) -> argparse.ArgumentParser:
    """Return a parser of the flags of tasks and, for training, of algorithms."""
    groups = {title: cls for task in tasks for algo in algos for title, (_, cls) in config_groups(task, algo).items()}
    return build_parser("main.py", DESCRIPTION, EPILOG, groups, add_help=add_help)


def _print_help(flags: Mapping[str, Any]) -> None:
    """Print the help, with the flags of the algorithm that the command line or its task file names."""
    algo = flags.get("algo")
    if algo is None:
        with contextlib.suppress(UserError):
            algo = _read_task_file(str(flags.get("config", "")), lists=False).settings.get("algo")
    _make_parser(TASKS, (algo if algo in AGENTS else TrainConfig().algo,), add_help=True).print_help()


def _read_task_file(path: str, *, lists: bool) -> TaskFile:
    if not path:
        return TaskFile({}, {})
    return read_yaml(expand_path(path), all_settings_names(), environments.check_env_id, lists=lists)


def _import_modules(given: Mapping[str, Any]) -> None:
    """Import the modules that the user named; an id in a checkpoint or config.yaml imports nothing."""
    with contextlib.suppress(ValueError):  # invalid text, which is reported with the other settings
        if any(coerce(given.get(name, False), bool) for name in ("render", "record")):
            environments.choose_renderer()  # modules may import MuJoCo
    data_dir = str(given.get("data_dir") or CommonConfig().data_dir)
    modules, env_id = (str(given.get(name) or "") for name in ("env_module", "env_id"))
    for module in filter(None, modules.replace(",", " ").split()):
        environments.import_module(module, f"--env_module={modules}", data_dir)
    environments.import_module_of(env_id, f"--env_id={env_id}", data_dir)


def _find_env_id(file: TaskFile, values: Mapping[str, Any]) -> str:
    """Return the full id of the run's environment, if the task file has sections for environments.

    A resumed run has it in its metadata.
    """
    if not file.sections:
        return ""
    env_id = values.get("env_id")
    if not env_id and values.get("resume", "no") != "no" and values.get("uuid"):
        folder = Path(expand_path(str(values.get("data_dir", CommonConfig().data_dir))))
        env_id = (read_metadata(folder / "checkpoints" / str(values["uuid"])) or {}).get("env_id")
    env_id = str(env_id or TrainConfig().env_id)
    with contextlib.suppress(ValueError):  # reported where the environment is made
        return environments.resolve(env_id)
    return env_id


def _check_owners(names: Sequence[str], task: str, algo: str) -> None:
    """Check that a task uses all settings that were set; else the UserError names the tasks or algorithms that do."""
    used = used_settings(task, algo)
    for name in names:
        if name not in used:
            tasks = [f"--task={other}" for other in TASKS if name in used_settings(other, algo)]
            algos = [f"--algo={other}" for other in AGENTS if name in used_settings("train", other)]
            present = f"--task={task}" if tasks else f"--algo={algo}"
            *others, last = tasks or algos
            owners = f"{', '.join(others)} and {last}" if others else last
            raise UserError(f"--{name} belongs to {owners}, not to {present}")
