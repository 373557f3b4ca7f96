"""A study: the same task file over environments and seeds, one job for each."""

from __future__ import annotations

import itertools
import math
import random
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
from agents import AGENTS
from environments.bundles import BUNDLES
from helpers import experiment as experiments
from helpers.checkpoint import write_bytes
from helpers.config import param, read_yaml, settings_of, to_flags, to_kwargs, usable_path
from helpers.errors import UserError
from helpers.experiment import MAX_NAME, Settings, groups_of

MAX_JOBS = 10_000  # of one study; a slip of the finger is beyond


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What a study runs over."""

    prefix: str = param("study", "name of the study, which its jobs' names begin with")
    config: str = param("", "task file of every job", check=usable_path)
    env_bundle: str = param("debug", "environments, by the name of their bundle", choices=lambda: tuple(BUNDLES))
    num_seeds: int = param(1, "seeds of each environment, from 0 on", low=1, high=MAX_JOBS)
    num_workers: int = param(2, "workers of each job", low=1)
    sweep: bool = param(False, "search: each trial draws one of each list in the task file")
    num_trials: int = param(1, "trials of a sweep, each over all environments and seeds", low=1, high=MAX_JOBS)
    sweep_seed: int = param(0, "seed of what the trials draw", low=0)
    args_method: str = param(
        "full",
        "what a job's command spells out: every parameter, those that differ from the defaults, or a YAML file",
        choices=("full", "yaml", "minimal"),
    )
    data_dir: str = param("data", "folder for the jobs' files and what they write", check=usable_path)


@dataclass(frozen=True)
class Job:
    """One run of a study."""

    name: str
    workers: int
    settings: Settings

    def values(self) -> dict[str, Any]:
        """Return name → value of every setting, but for what belongs to the launch."""
        values = self.settings.flat()
        del values["config"], values["num_workers"]  # the one is read already, the other is mpiexec's
        return values


def jobs_of(study: StudyConfig) -> list[Job]:
    """Return the jobs of a study, each held against what ``main.py`` accepts and against the environments there are.

    Raises:
        UserError: for the first job that would not start.
    """
    _, members = BUNDLES[study.env_bundle]
    if not study.config:
        raise UserError("--config=tasks/<file>.yaml: which task is to be run?")
    trials = trials_of(study)
    if (count := len(members) * study.num_seeds * len(trials)) > MAX_JOBS:
        raise UserError(f"{count} jobs; at most {MAX_JOBS} are one study")
    jobs, made, data = [], set(), Path(study.data_dir).absolute()  # the jobs start elsewhere
    for env_id in members:
        for (number, drawn), seed in itertools.product(enumerate(trials), range(study.num_seeds)):
            trial = f".trial{number:03}" if study.sweep else ""
            name = f"{study.prefix}.{env_id.replace(':', '_').replace('/', '_')}{trial}.seed{seed:02}"
            argv = [f"--config={study.config}", f"--env_id={env_id}", f"--seed={seed}", f"--uuid={name}"]
            settings = experiments.parse([*argv, f"--data_dir={data}"], drawn)
            kwargs = settings.common.env_kwargs
            if (env_id, kwargs) not in made:
                environments.make_env(environments.resolve(env_id), None, to_kwargs(kwargs)).close()
                made.add((env_id, kwargs))
            jobs.append(Job(name, study.num_workers, settings))
    return jobs


def trials_of(study: StudyConfig) -> list[dict[str, Any] | None]:
    """Return what each trial of a sweep draws from the lists in the task file; otherwise one that draws nothing.

    No combination is drawn twice, and more trials begin with the same ones.

    Raises:
        UserError: where there is nothing to draw, or there are fewer combinations than trials.
    """
    if not study.sweep:
        if study.num_trials > 1:
            raise UserError(f"--num_trials={study.num_trials} needs --sweep")
        return [None]
    known = set().union(*map(experiments.known_settings, AGENTS))
    file = read_yaml(study.config, known, lists=True)
    choices = {name: values for name, values in file.items() if isinstance(values, list)}
    if not choices:
        raise UserError(f"--sweep: there is no list to draw from in {study.config}")
    combinations = math.prod(len(set(values)) for values in choices.values())
    if study.num_trials > combinations:
        raise UserError(f"--num_trials={study.num_trials}, but {study.config} has {combinations} combinations")
    chance = random.Random(study.sweep_seed)
    drawn: dict[tuple[Any, ...], None] = {}
    while len(drawn) < study.num_trials:
        drawn[tuple(chance.choice(values) for values in choices.values())] = None
    return [dict(zip(choices, values, strict=True)) for values in drawn]


def arguments(job: Job, method: str, yaml_path: Path) -> list[str]:
    """Return the arguments of ``main.py`` for a job.

    Args:
        job: what to run.
        method: ``full``, ``minimal`` or ``yaml``.
        yaml_path: where the job's settings stand, for ``yaml``.
    """
    if method == "yaml":
        return [f"--config={yaml_path}"]
    values = job.values()
    if method == "minimal":
        defaults = {
            name: default
            for _, cls in groups_of("train", job.settings.train.algo).values()
            for name, (_, default, _) in settings_of(cls).items()
        }
        values = {name: value for name, value in values.items() if value != defaults[name]}
    return to_flags(values)


def script(job: Job, args: Sequence[str]) -> str:
    """Return a shell script that runs a job in the folder of this program, with arguments of ``main.py``."""
    root = Path(__file__).resolve().parent.parent
    command = ["mpiexec", "-n", str(job.workers), "python", "main.py", *args]
    return f"#!/usr/bin/env bash\nset -euo pipefail\ncd {shlex.quote(str(root))}\nexec {shlex.join(command)}\n"


def write(study: StudyConfig, jobs: Sequence[Job]) -> Path:
    """Write a script for each job, and its settings where the scripts name them; return their folder.

    Raises:
        UserError: where the folder cannot be written.
    """
    import yaml

    folder = Path(study.data_dir).absolute() / "spawn" / study.prefix
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for job in jobs:
            settings = folder / f"{job.name}.yaml"
            if study.args_method == "yaml":
                write_bytes(settings, yaml.safe_dump(job.values(), sort_keys=False).encode())
            text = script(job, arguments(job, study.args_method, settings))
            write_bytes(folder / f"{job.name}.sh", text.encode())
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    return folder


def check(study: StudyConfig) -> None:
    """Refuse a study whose name cannot be that of a folder.

    Raises:
        UserError: saying so.
    """
    if Path(study.prefix).name != study.prefix or study.prefix in (".", ".."):
        raise UserError(f"--prefix={study.prefix}: a name, not a path")
    if len(study.prefix.encode()) > MAX_NAME // 2:
        raise UserError(f"--prefix={study.prefix}: a name of at most {MAX_NAME // 2} bytes")
