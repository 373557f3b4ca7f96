"""The jobs of a study: one task file × environments × numbers of demonstrations × trials × seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from milozero import environments
from milozero.agents import AGENTS
from milozero.demonstrations import dataset as demos
from milozero.environments.bundles import BUNDLES
from milozero.experiment.command_line import parse
from milozero.experiment.resume import settings_from_metadata
from milozero.experiment.settings import INPUT_PATHS, Settings, all_settings_names, used_settings
from milozero.helpers.config.flags import is_switch, to_flags
from milozero.helpers.config.task_file import read_yaml
from milozero.helpers.config.values import coerce, to_kwargs
from milozero.helpers.errors import UserError, did_you_mean
from milozero.helpers.progress import with_progress
from milozero.studies.config import DEFAULT_NUM_WORKERS, MAX_JOBS, StudyConfig
from milozero.tracking.names import check_wandb_name

STUDY_OWNED = {"env_id", "seed", "uuid", "resume", "data_dir", "task"}  # settings that the study sets itself
TEACHER_SETTINGS = ("init_from", "expert_model", "reward_path")  # settings that name a checkpoint


@dataclass(frozen=True)
class Job:
    """One training run of a study."""

    name: str
    settings: Settings
    cwd: str = field(default_factory=os.getcwd)  # where it runs, for relative paths and modules

    @property
    def num_workers(self) -> int:
        """Number of workers of the run."""
        return self.settings.common.num_workers or DEFAULT_NUM_WORKERS

    def to_dict(self) -> dict[str, Any]:
        """Return name → value of every setting except ``config``, whose file has been read."""
        values = self.settings.flat()
        del values["config"]
        return values

    @classmethod
    def from_dict(cls, name: str, values: Mapping[str, Any], cwd: str) -> Job:
        """Return the job with the settings that `to_dict` returned.

        Raises:
            UserError: if these are not the settings of a training run.
        """
        return cls(name, settings_from_metadata(dict(values)), cwd)


def build_jobs(study: StudyConfig, project: str = "") -> list[Job]:
    """Return the jobs of a study, after checking that each could start.

    They log to the Weights & Biases `project` unless the study or the task file names another.

    Raises:
        UserError: if a job could not start.
    """
    if not study.config:
        raise UserError("--config is missing; pass a task file, e.g. --config=tasks/train_mujoco_ppo.yaml")
    overrides = read_overrides(study)
    env_ids = resolve_bundle(study.env_bundle or read_benchmark(study), study.data_dir)
    demo_counts: tuple[int | None, ...] = study.num_demos or (None,)
    if len(set(demo_counts)) < len(demo_counts):
        raise UserError("--num_demos: duplicate number")
    trials = draw_trials(study)
    if (count := len(env_ids) * len(demo_counts) * len(trials) * study.num_seeds) > MAX_JOBS:
        raise UserError(f"the study has {count} jobs; the maximum is {MAX_JOBS}")
    jobs, validator = [], JobValidator()
    axes = itertools.product(env_ids, demo_counts, enumerate(trials), range(study.num_seeds))
    for env_id, num_demos, (trial, drawn), seed in with_progress(list(axes), "checking"):
        name = f"{study.prefix}.{_to_file_name(env_id)}"
        if num_demos is not None:
            name += f".demos{num_demos:02}"
        if study.sweep:
            name += f".trial{trial:03}"
        name += f".seed{seed:02}"
        settings = _complete_settings(
            parse([*_job_flags(study, name, env_id, num_demos, seed), *overrides], drawn), project
        )
        if num_demos is not None and not settings.imitation.expert_path:
            raise UserError("--num_demos requires --demo_dir, e.g. --demo_dir=data/demos")
        validator.check(settings)
        jobs.append(Job(name, settings))
    return jobs


def read_overrides(study: StudyConfig) -> list[str]:
    """Return the flags of ``--set NAME=VALUE``.

    Raises:
        UserError: if there is no such setting, or the study sets it itself; an invalid value is found with the jobs'.
    """
    values: dict[str, Any] = {}
    known = {name: kind for algo in AGENTS for name, (kind, *_) in used_settings("train", algo).items()}
    for word in study.overrides:
        name, equals, text = word.removeprefix("--").partition("=")
        if not equals:
            raise UserError(f"--set {word}: write NAME=VALUE, e.g. --set num_timesteps=2e4")
        if name not in known:
            raise UserError(f"--set {word}: no setting '{name}'{did_you_mean(name, known)}")
        if name in STUDY_OWNED | {"benchmark", "config"}:
            raise UserError(f"--set {word}: the study sets {name}")
        if name in values:
            raise UserError(f"--set {word}: {name} is set twice")
        try:
            values[name] = coerce(text, bool) if is_switch(known[name]) else text
        except ValueError as error:
            raise UserError(f"--set {word}: {error}") from None
    return to_flags(values)


def resolve_bundle(bundle: str, data_dir: str) -> tuple[str, ...]:
    """Return the full ids of a bundle's environments, or of a comma-separated list of environments.

    This imports the modules of the user's own environments, which must not be in the data folder.

    Raises:
        UserError: if there is neither a bundle nor an environment of that name.
    """
    if bundle in BUNDLES:
        return BUNDLES[bundle][1]
    env_ids = [env_id.strip() for env_id in bundle.split(",")]
    try:
        for env_id in env_ids:
            environments.import_module_of(env_id, f"--env_id={env_id}", data_dir)
        return tuple(dict.fromkeys(map(environments.resolve, env_ids)))
    except UserError as error:
        hint = did_you_mean(bundle, BUNDLES)
        raise UserError(f"--env_bundle={bundle}: no bundle of that name{hint}, and {error}") from None


def read_benchmark(study: StudyConfig) -> str:
    """Return the bundle that the task file names as its ``benchmark``; ``debug`` if it names none.

    Raises:
        UserError: if the file cannot be read or there is no such bundle.
    """
    name = str(_read_task_file(study).get("benchmark") or "debug")
    if name not in BUNDLES:
        raise UserError(f"{study.config}: benchmark: no bundle '{name}'{did_you_mean(name, BUNDLES)}")
    return name


def find_ignored_settings(study: StudyConfig) -> list[str]:
    """Return the task file's settings that the study overrides; raise a UserError if the file cannot be read."""
    return sorted((STUDY_OWNED - {"task"}) & set(_read_task_file(study)))


def _read_task_file(study: StudyConfig) -> dict[str, Any]:
    """Return the task file's settings, for any algorithm; a list holds the choices of a sweep."""
    known = all_settings_names()
    return read_yaml(study.config, known, environments.check_env_id, lists=True).settings


def _to_file_name(env_id: str) -> str:
    return env_id.replace(":", "_").replace("/", "_")


def _job_flags(study: StudyConfig, name: str, env_id: str, num_demos: int | None, seed: int) -> list[str]:
    """Return the flags with which the study overrides the task file."""
    flags = [f"--config={study.config}", f"--env_id={env_id}", f"--seed={seed}", f"--uuid={name}"]
    flags.append("--resume=auto")  # a restarted job continues
    flags.append(f"--data_dir={Path(study.data_dir).absolute()}")  # jobs have another working directory
    if num_demos is not None:
        flags.append(f"--num_demos={num_demos}")
    if study.demo_dir:
        flags.append(f"--expert_path={study.demo_dir}/{_to_file_name(env_id)}")
    overrides = ("num_workers", "wandb_entity", "wandb_project")
    return flags + [f"--{setting}={value}" for setting in overrides if (value := getattr(study, setting))]


def _complete_settings(settings: Settings, project: str) -> Settings:
    """Return settings with absolute paths and without implicit defaults."""
    common, tracking = settings.common, settings.tracking
    if common.num_workers is None:
        common = dataclasses.replace(common, num_workers=DEFAULT_NUM_WORKERS)
    imitation, agent = (_make_paths_absolute(group) for group in (settings.imitation, settings.agent))
    if not tracking.wandb_project and project:
        try:
            check_wandb_name(project)
        except UserError as error:
            raise UserError(f"--wandb_project={project}: {error}") from None
        tracking = dataclasses.replace(tracking, wandb_project=project)
    return dataclasses.replace(settings, common=common, imitation=imitation, agent=agent, tracking=tracking)


def _make_paths_absolute(group: Any) -> Any:
    paths = {name: value for name in INPUT_PATHS if (value := getattr(group, name, ""))}
    return dataclasses.replace(group, **{name: str(Path(path).absolute()) for name, path in paths.items()})


class Spaces(NamedTuple):
    """Observation size and action space of an environment."""

    observation_size: int
    action_space: Any

    @property
    def policy_space(self) -> Any:
        """The action space in the policy's units."""
        from milozero.environments.actions import make_converter  # imports gymnasium

        return make_converter(self.action_space).policy_space


class JobValidator:
    """Checks environments, demonstrations and teacher checkpoints of jobs, each once."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[str, str], Spaces] = {}
        self._checked: set[tuple[Any, ...]] = set()

    def check(self, settings: Settings) -> None:
        """Raise a UserError unless a job could start.

        The environment must exist, the algorithm must support its actions, and demonstrations and teacher
        checkpoints must match it.
        """
        env_id, kwargs = settings.train.env_id, settings.common.env_kwargs
        if (env_id, kwargs) not in self._spaces:
            from milozero.environments.vector import close_env  # imports gymnasium

            env = environments.make_env(environments.resolve(env_id), None, to_kwargs(kwargs))
            self._spaces[env_id, kwargs] = Spaces((env.observation_space.shape or (0,))[0], env.action_space)
            close_env(env)
        spaces = self._spaces[env_id, kwargs]
        settings.agent.check_action_space(spaces.policy_space)
        path, num_demos = settings.imitation.expert_path, settings.imitation.num_demos
        if path and (key := (env_id, kwargs, path, num_demos)) not in self._checked:
            demos.check_compatible(demos.read_demos(path, num_demos), path, *spaces)
            self._checked.add(key)
        has_teacher = any(getattr(settings.agent, name, "") for name in TEACHER_SETTINGS)
        if has_teacher and (teacher_key := (env_id, kwargs, settings.agent)) not in self._checked:
            from milozero.evaluation import loading  # imports torch, which `spawner.py -h` does not need

            loading.load_teachers(settings, "cpu").check_spaces(spaces)
            self._checked.add(teacher_key)


def draw_trials(study: StudyConfig) -> list[dict[str, Any] | None]:
    """Return the values that each trial of a sweep draws from the task file's lists; ``[None]`` without a sweep.

    Each combination is drawn at most once. A sweep with more trials begins with the same ones.

    Raises:
        UserError: if there is no list to draw from or there are fewer combinations than trials.
    """
    if not study.sweep:
        if study.num_trials > 1:
            raise UserError(f"--num_trials={study.num_trials} requires --sweep")
        return [None]
    settings = _read_task_file(study)
    fixed = {word.partition("=")[0] for word in study.overrides}
    choices = {name: values for name, values in settings.items() if isinstance(values, list) and name not in fixed}
    if conflicts := sorted((STUDY_OWNED | {"benchmark"}) & set(choices)):
        raise UserError(f"--sweep: {conflicts[0]} is a list in {study.config}, but the study sets it")
    if not choices:
        raise UserError(f"--sweep: {study.config} has no list to draw from")
    combinations = math.prod(len(set(values)) for values in choices.values())
    if study.num_trials > combinations:
        raise UserError(f"--num_trials={study.num_trials}, but {study.config} has {combinations} combinations")
    rng = random.Random(study.sweep_seed)
    drawn: dict[tuple[Any, ...], None] = {}
    while len(drawn) < study.num_trials:
        drawn[tuple(rng.choice(values) for values in choices.values())] = None
    return [dict(zip(choices, values, strict=True)) for values in drawn]
