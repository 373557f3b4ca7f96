"""A study: the same task file over environments, numbers of demonstrations, trials and seeds, one job for each."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from milozero import environments
from milozero.demonstrations import dataset as demos
from milozero.environments.bundles import BUNDLES
from milozero.experiment.command_line import parse
from milozero.experiment.resume import default_values, settings_from_metadata
from milozero.experiment.settings import INPUT_PATHS, Settings, all_settings_names
from milozero.experiment.validation import MAX_NAME_BYTES
from milozero.helpers.config.flags import to_flags
from milozero.helpers.config.params import param, usable_path
from milozero.helpers.config.task_file import read_yaml
from milozero.helpers.config.values import to_kwargs
from milozero.helpers.errors import UserError, did_you_mean
from milozero.tracking.names import check_wandb_name

MAX_JOBS = 10_000  # of one study; a slip of the finger is beyond
STUDY_OWNED = {"env_id", "seed", "uuid", "resume", "data_dir", "task"}  # settings that are the study's to give
TEACHERS = ("expert_model", "reward_path")  # settings that name a checkpoint to learn from
DEFAULT_WORKERS = 2  # of a job, where neither the command line nor the task file says


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What a study runs over."""

    prefix: str = param("study", "name of the study, which its jobs' names begin with")
    config: str = param("", "task file of every job", check=usable_path)
    env_bundle: str = param(
        "",
        "environments: the name of a bundle, or ids with commas between them (default: the task file's "
        "`benchmark`, else debug)",
    )
    num_seeds: int = param(1, "seeds of each environment, from 0 on", low=1, high=MAX_JOBS)
    num_demos: tuple[int, ...] = param(
        (), "numbers of demonstrations, a job for each; 0 for all there are", low=0, alias="list"
    )
    demo_dir: str = param(
        "", "folder with a folder of demonstrations for each environment, such as data/demos", check=usable_path
    )
    num_workers: int | None = param(
        None, f"workers of each job (default: as the task file says, else {DEFAULT_WORKERS})", low=1
    )
    sweep: bool = param(False, "search: each trial draws one of each list in the task file")
    num_trials: int = param(1, "trials of a sweep, each over all environments and seeds", low=1, high=MAX_JOBS)
    sweep_seed: int = param(0, "seed of what the trials draw", low=0)
    data_dir: str = param("data", "folder for the jobs' files and what they write", check=usable_path)
    wandb_entity: str = param("", "Weights & Biases user or team", check=check_wandb_name)
    wandb_project: str = param(
        "",
        "Weights & Biases project (default: the study's name, where another --wandb flag is given)",
        check=check_wandb_name,
    )


@dataclass(frozen=True)
class Job:
    """One run of a study."""

    name: str
    settings: Settings

    @property
    def workers(self) -> int:
        """How many workers the run has."""
        return self.settings.common.num_workers or DEFAULT_WORKERS

    def values(self) -> dict[str, Any]:
        """Return name → value of every setting but ``config``, which is read already."""
        values = self.settings.flat()
        del values["config"]
        return values

    @classmethod
    def from_values(cls, name: str, values: Mapping[str, Any]) -> Job:
        """Return the job whose `values` these are.

        Raises:
            UserError: where they are not those of a run.
        """
        return cls(name, settings_from_metadata(dict(values)))


def build_jobs(
    study: StudyConfig, project: str = "", with_progress: Callable[[Sequence[Any]], Iterable[Any]] = iter
) -> list[Job]:
    """Return the jobs of a study, each held against what ``main.py`` accepts and against the environments there are.

    Args:
        study: what to run over.
        project: of Weights & Biases, where neither the study nor the task file names one.
        with_progress: goes through a sequence, and shows how far it is.

    Raises:
        UserError: for the first job that would not start.
    """
    if not study.config:
        raise UserError("--config=tasks/<file>.yaml: which task is to be run?")
    members, numbers = resolve_bundle(study.env_bundle or read_benchmark(study)), study.num_demos or (None,)
    if len(set(numbers)) < len(numbers):
        raise UserError("--num_demos: the same number stands twice")
    trials = draw_trials(study)
    if (count := len(members) * len(numbers) * len(trials) * study.num_seeds) > MAX_JOBS:
        raise UserError(f"{count} jobs; at most {MAX_JOBS} are one study")
    jobs, trial_run = [], JobValidator()
    axes = itertools.product(members, numbers, enumerate(trials), range(study.num_seeds))
    for env_id, number, (trial, drawn), seed in with_progress(list(axes)):
        folder = env_id.replace(":", "_").replace("/", "_")
        name = f"{study.prefix}.{folder}"
        if number is not None:
            name += f".demos{number:02}"
        if study.sweep:
            name += f".trial{trial:03}"
        name += f".seed{seed:02}"
        argv = list(_flags(study, name, env_id, seed))
        if number is not None:
            argv.append(f"--num_demos={number}")
        if study.demo_dir:
            argv.append(f"--expert_path={study.demo_dir}/{folder}")
        settings = _complete(parse(argv, drawn), project)
        if number is not None and not settings.imitation.expert_path:
            raise UserError("--num_demos: of which demonstrations? --demo_dir=data/demos")
        trial_run.check(settings)
        jobs.append(Job(name, settings))
    return jobs


def resolve_bundle(bundle: str) -> tuple[str, ...]:
    """Return the full ids of a bundle, or of the environments that are named instead of one.

    Raises:
        UserError: where there is neither such a bundle nor such an environment.
    """
    if bundle in BUNDLES:
        return BUNDLES[bundle][1]
    try:
        return tuple(dict.fromkeys(environments.resolve(env_id.strip()) for env_id in bundle.split(",")))
    except UserError as error:
        near = did_you_mean(bundle, BUNDLES)
        raise UserError(f"--env_bundle={bundle}: no bundle of that name{near}, and {error}") from None


def read_benchmark(study: StudyConfig) -> str:
    """Return the bundle that the task file is for; where it does not say, the short one.

    Raises:
        UserError: where the file cannot be read, or names what is no bundle.
    """
    name = str(_read_task_file(study).get("benchmark") or "debug")
    if name not in BUNDLES:
        raise UserError(f"{study.config}: benchmark: no bundle '{name}'{did_you_mean(name, BUNDLES)}")
    return name


def _read_task_file(study: StudyConfig) -> dict[str, Any]:
    """Return what the task file says, whatever the algorithm; a list is the choices of a sweep.

    Raises:
        UserError: where it cannot be read.
    """
    return read_yaml(study.config, all_settings_names(), environments.check_env_id, lists=True).settings


def _flags(study: StudyConfig, name: str, env_id: str, seed: int) -> Iterator[str]:
    """Yield what a job's command line says besides its demonstrations."""
    yield from (f"--config={study.config}", f"--env_id={env_id}", f"--seed={seed}", f"--uuid={name}")
    yield "--resume=auto"  # started again, it goes on
    yield f"--data_dir={Path(study.data_dir).absolute()}"  # the jobs start elsewhere
    for setting in ("num_workers", "wandb_entity", "wandb_project"):
        if value := getattr(study, setting):
            yield f"--{setting}={value}"


def _complete(settings: Settings, project: str) -> Settings:
    """Return settings that say what a job must not leave to where it happens to start.

    Raises:
        UserError: where Weights & Biases takes no `project` of that name.
    """
    common, tracking = settings.common, settings.tracking
    if common.num_workers is None:
        common = dataclasses.replace(common, num_workers=DEFAULT_WORKERS)
    imitation, agent = (_absolute(group) for group in (settings.imitation, settings.agent))
    if not tracking.wandb_project and project:
        try:
            check_wandb_name(project)
        except UserError as error:
            raise UserError(f"--wandb_project={project}: {error}") from None
        tracking = dataclasses.replace(tracking, wandb_project=project)
    return dataclasses.replace(settings, common=common, imitation=imitation, agent=agent, tracking=tracking)


def _absolute(group: Any) -> Any:
    """Return a group of settings whose paths lead to the same from everywhere."""
    paths = {name: value for name in INPUT_PATHS if (value := getattr(group, name, ""))}
    return dataclasses.replace(group, **{name: str(Path(path).absolute()) for name, path in paths.items()})


class Spaces(NamedTuple):
    """What an environment shows and takes."""

    observation_size: int
    action_space: Any


class JobValidator:
    """Makes each environment, and reads each set of demonstrations and each checkpoint to learn from, once."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[str, str], Spaces] = {}
        self._fitting: set[tuple[Any, ...]] = set()

    def check(self, settings: Settings) -> None:
        """Try what a job needs.

        Raises:
            UserError: where the environment cannot be made, its actions do not fit, or what is to be learned from
                does not fit or is not there.
        """
        env_id, kwargs = settings.train.env_id, settings.common.env_kwargs
        if (env_id, kwargs) not in self._spaces:
            env = environments.make_env(environments.resolve(env_id), None, to_kwargs(kwargs))
            self._spaces[env_id, kwargs] = Spaces((env.observation_space.shape or (0,))[0], env.action_space)
            env.close()
        spaces = self._spaces[env_id, kwargs]
        settings.agent.check_action_space(spaces.action_space)
        path, number = settings.imitation.expert_path, settings.imitation.num_demos
        if path and (case := (env_id, kwargs, path, number)) not in self._fitting:
            demos.check_compatible(demos.read_demos(path, number), path, *spaces)
            self._fitting.add(case)
        expert, reward = (getattr(settings.agent, name, "") for name in TEACHERS)
        if (expert or reward) and (asked := (env_id, kwargs, settings.agent)) not in self._fitting:
            from milozero.evaluation import loading as players  # imports torch

            players.load_expert(settings, spaces, "cpu")
            players.load_reward(settings, spaces, "cpu")
            self._fitting.add(asked)


def overruled(study: StudyConfig) -> list[str]:
    """Return the settings in the task file that have no effect, as the study gives them itself.

    Raises:
        UserError: where the file cannot be read.
    """
    return sorted((STUDY_OWNED - {"task"}) & set(_read_task_file(study)))


def draw_trials(study: StudyConfig) -> list[dict[str, Any] | None]:
    """Return what each trial of a sweep draws from the lists in the task file; otherwise one that draws nothing.

    No combination is drawn twice, and more trials begin with the same ones.

    Raises:
        UserError: where there is nothing to draw, or there are fewer combinations than trials.
    """
    if not study.sweep:
        if study.num_trials > 1:
            raise UserError(f"--num_trials={study.num_trials} needs --sweep")
        return [None]
    file = _read_task_file(study)
    choices = {name: values for name, values in file.items() if isinstance(values, list)}
    if own := sorted((STUDY_OWNED | {"benchmark"}) & set(choices)):
        raise UserError(f"--sweep: {own[0]} is a list in {study.config}, but the study sets it")
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
        defaults = default_values(job.settings.train.algo)
        values = {name: value for name, value in values.items() if value != defaults[name]}
    return to_flags(values)


def check(study: StudyConfig, flag: str = "prefix") -> None:
    """Refuse a study whose name, which `flag` gave, cannot be that of a folder.

    Raises:
        UserError: saying so.
    """
    if not study.prefix or Path(study.prefix).name != study.prefix or study.prefix in (".", ".."):
        raise UserError(f"--{flag}={study.prefix}: a name, not a path")
    if len(study.prefix.encode()) > MAX_NAME_BYTES // 2:
        raise UserError(f"--{flag}={study.prefix}: a name of at most {MAX_NAME_BYTES // 2} bytes")
