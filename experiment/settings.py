"""What the user set: groups of settings, and how they are read."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from milozero import environments
from milozero.agents import AGENTS, agent_class
from milozero.demonstrations.dataset import ImitationConfig
from milozero.experiment.metadata import read_metadata
from milozero.helpers.config.params import (
    build,
    build_parser,
    declared_settings,
    param,
    read_flags,
    to_kwargs,
    to_seconds,
    usable_path,
)
from milozero.helpers.config.task_file import read_yaml
from milozero.helpers.errors import UserError
from milozero.tracking.names import parse_run_path, usable_name
from milozero.tracking.tracker import TrackingConfig

DESCRIPTION = "Train and evaluate reinforcement-learning agents, with one worker or, under mpiexec, with many."
EPILOG = """Examples:
  python main.py --task=train --env_id=Hopper --num_timesteps=1e6
  mpiexec -n 2 python main.py --task=train --config=tasks/train_mujoco_ppo.yaml --seed=1
  python main.py --task=eval --model_path=data/checkpoints/NAME --iter_num=best --num_trajs=1 --record
  python main.py --task=list_envs --only=dmc
  python main.py --task=demos --expert_path=data/demos/Hopper-v3
  python main.py --task=report --study=walkers

Each algorithm has flags of its own: `main.py --algo=gail -h` lists those of gail; docs/parameters.md has all."""
TASKS = ("train", "eval", "list_envs", "demos", "report")
# Far beyond what is of use, and short of what a machine can hold: a slip of the finger is beyond.
MAX_ENVS, MAX_ROLLOUT, MAX_EPISODES = 65_536, 2**24, 1_000_000
PATHS = ("expert_path", "expert_model", "reward_path")  # settings of a training run that name what it reads
MAX_NAME = 200  # bytes of an experiment's name; those of files end at 255


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Settings of every task."""

    task: str = param("train", "what to do", choices=TASKS, mutable_on_resume=True)
    config: str = param("", "YAML file with settings; the command line overrides it", mutable_on_resume=True)
    seed: int | None = param(None, "seed of everything random (train: 0; eval: the checkpoint's)", low=0)
    num_workers: int | None = param(
        None, "check that this many workers run; mpiexec -n starts them", low=1, mutable_on_resume=True
    )
    data_dir: str = param(
        "data", "folder for checkpoints, logs and evaluations", check=usable_path, mutable_on_resume=True
    )
    cuda: bool = param(False, "networks on the GPU", mutable_on_resume=True)
    env_kwargs: str = param(
        "",
        "what the environment is made with: name=value,name=value (eval: on top of the checkpoint's)",
        check=to_kwargs,
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run, whatever the algorithm."""

    algo: str = param("ppo", "algorithm", choices=lambda: tuple(AGENTS))
    env_id: str = param("Hopper", "environment; without a version the newest one")
    benchmark: str = param(
        "",
        "bundle that a task file is for: what spawner.py runs over where no --env_bundle is given",
        mutable_on_resume=True,
    )
    uuid: str = param(
        "", "name of the experiment; a readable one is made up where it is empty", mutable_on_resume=True
    )
    num_envs: int = param(16, "environments of each worker", low=1, high=MAX_ENVS)
    rollout_len: int = param(
        2048, "environment steps of each worker per iteration, over all its environments", low=1, high=MAX_ROLLOUT
    )
    num_timesteps: int = param(
        10_000_000, "end after this many environment steps over all workers", low=1, mutable_on_resume=True
    )
    num_iters: int | None = param(None, "end after this many iterations", low=1, mutable_on_resume=True)
    execution_time: str = param(
        "", "stop after this wall-clock time: D-HH:MM:SS or HH:MM:SS", check=to_seconds, mutable_on_resume=True
    )
    resume: str = param(
        "no",
        "go on with experiment --uuid; auto: if there is one",
        choices=("no", "yes", "auto"),
        bare="yes",
        mutable_on_resume=True,
    )
    save_frequency: int = param(50, "iterations between checkpoints; at each, fresh episodes start", low=1)
    keep_checkpoints: int = param(
        0, "keep the newest so many of them besides best and last; 0 for all", low=0, mutable_on_resume=True
    )
    watchdog: str = param(
        "01:00:00",
        "end the job where an iteration takes longer; 0 for never",
        check=to_seconds,
        mutable_on_resume=True,
    )
    eval_frequency: int = param(
        25, "iterations between evaluations, 0 for only one at the end", low=0, mutable_on_resume=True
    )
    eval_episodes: int = param(
        10, "episodes of an evaluation, with the deterministic policy", low=1, high=MAX_EPISODES
    )
    sync_check_frequency: int = param(
        10, "iterations between checks that all workers agree, 0 for none", low=0, mutable_on_resume=True
    )
    compile: bool | None = param(None, "compile the update (default: where it pays)", mutable_on_resume=True)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Settings of an evaluation; algorithm, environment and networks come from the checkpoint."""

    model_path: str = param("", "folder of checkpoints: data/checkpoints/<experiment>", check=usable_path)
    wandb_run_path: str = param(
        "", "or a run of Weights & Biases: user/project/run; downloaded once", check=usable_path
    )
    wandb_download_replace: bool = param(False, "download it again, also where it is there already")
    iter_num: str = param("best", "which of them: an iteration, best or last")
    num_trajs: int = param(10, "episodes to play", low=1, high=MAX_EPISODES)
    render: bool = param(False, "show the episodes in a window, or write videos where there is no display")
    record: bool = param(False, "write the episodes as mp4 videos")
    save_traj: bool = param(False, "write the episodes as demonstrations (HDF5)")


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Settings of the list of environments."""

    only: str = param("", "environments whose suite or id contains this text; empty for all")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of the report of a study, or of any runs."""

    study: str = param(
        "", "runs of this name, or whose names go on after it with a dot; several with commas, * and ? stand for any"
    )
    format: str = param("", "what to write (default: as --out ends, else html)", choices=("html", "png", "csv"))
    out: str = param("", "file to write (default: data/reports/<study>.<format>)", check=usable_path)


@dataclass(frozen=True)
class Settings:
    """Everything the user set, by group."""

    common: CommonConfig
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    agent: Any = None  # of the algorithm's own config class
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    listing: ListConfig = field(default_factory=ListConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    explicit: frozenset[str] = frozenset()  # names of the settings that the command line or the file gave

    @property
    def sources(self) -> list[str]:
        """The paths that a training run reads from."""
        found = [getattr(group, name, "") for group in (self.imitation, self.agent) for name in PATHS]
        return [path for path in found if path]

    def unused(self) -> list[str]:
        """Return what to say of the imitation's flags that were given and that the algorithm does not learn by."""
        given = [name for name in vars(self.imitation) if name in self.explicit]
        of_discriminators = ["d_perception_stack"]
        needs = {
            "LEARNS_FROM_DEMOS": [name for name in given if name not in of_discriminators],
            "DISCRIMINATES": [name for name in given if name in of_discriminators],
        }
        notes = []
        for ability, flags in needs.items():
            if flags and not getattr(agent_class(self.train.algo), ability):
                able = ", ".join(name for name in AGENTS if getattr(agent_class(name), ability))
                notes.append(f"{self.train.algo} does not learn by {', '.join(flags)}, as {able} do")
        return notes

    def flat(self) -> dict[str, Any]:
        """Return name → value of every setting of a training run."""
        groups = (self.common, self.train, self.agent, self.imitation, self.tracking)
        return {name: value for group in groups for name, value in dataclasses.asdict(group).items()}


def config_groups(task: str, algo: str) -> dict[str, tuple[str, type]]:
    """Return title → (field of `Settings`, config class) of the settings that a task uses."""
    tracking: dict[str, tuple[str, type]] = {"tracking": ("tracking", TrackingConfig)}
    common: dict[str, tuple[str, type]] = {"every task": ("common", CommonConfig)}
    if task == "list_envs":
        return common | {"--task=list_envs": ("listing", ListConfig)}
    if task == "demos":
        return common | {"imitation": ("imitation", ImitationConfig)}
    if task == "report":
        return common | {"--task=report": ("report", ReportConfig)}
    if task == "eval":
        return common | {"--task=eval": ("evaluation", EvalConfig)} | tracking
    return {
        **common,
        "--task=train": ("train", TrainConfig),
        f"--algo={algo}": ("agent", agent_class(algo).Config),
        "imitation": ("imitation", ImitationConfig),
        **tracking,
    }


def settings_names(task: str, algo: str) -> set[str]:
    """Return the names of the settings that a task uses."""
    return {name for _, cls in config_groups(task, algo).values() for name in declared_settings(cls)}


def known_settings(algo: str) -> set[str]:
    """Return the names that a command line or a task file may give, whatever the task."""
    return set().union(*(settings_names(task, algo) for task in TASKS))


def parse(argv: Sequence[str], drawn: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of a command line and of the YAML file it may name.

    Args:
        argv: the arguments.
        drawn: of a sweep's trial: what stands in the file's place where the file has a list of choices.

    Raises:
        UserError: for anything unknown, of the wrong type, out of range or that does not fit together.
    """
    algo = _algo_of(argv, drawn)
    groups = {title: group for task in TASKS for title, group in config_groups(task, algo).items()}
    flags = read_flags(build_parser("main.py", DESCRIPTION, EPILOG, {t: cls for t, (_, cls) in groups.items()}), argv)
    known = known_settings(algo)
    path = str(flags.get("config", ""))
    file = _read(path, known, flags, drawn) if path else dict(drawn or {})
    if "config" in file:
        raise UserError(f"{path}: config: a task file cannot name another one")
    task = build(CommonConfig, flags, file, path).task
    used = config_groups(task, build(TrainConfig, flags, file, path).algo)
    for name in [*flags, *file]:
        if not any(name in declared_settings(cls) for _, cls in used.values()):
            owners = [f"--task={t}" for t in TASKS if name in settings_names(t, algo)]
            raise UserError(f"--{name} belongs to {' and '.join(owners)}, not to --task={task}")
    explicit = frozenset([*flags, *file])
    settings = Settings(**{group: build(cls, flags, file, path) for group, cls in used.values()}, explicit=explicit)
    check(settings)
    for name in {"wandb_project", "wandb_entity"} & explicit:  # what a checkpoint's record says is of no matter
        try:
            usable_name(getattr(settings.tracking, name))
        except UserError as error:
            raise UserError(f"--{name}={getattr(settings.tracking, name)}: {error}") from None
    return settings


def _read(path: str, known: set[str], flags: Mapping[str, Any], drawn: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a task file says of the environment of the run, which may be one that is resumed.

    Raises:
        UserError: where the file cannot be read.
    """
    file = read_yaml(path, known, environments.check_env_id, lists=drawn is not None)
    if not file.sections:
        return file.settings | dict(drawn or {})
    given = {**file.settings, **(drawn or {}), **flags}
    record = None
    if given.get("resume", "no") != "no" and given.get("uuid"):
        folder = Path(str(given.get("data_dir", CommonConfig().data_dir)))
        record = read_metadata(folder / "checkpoints" / str(given["uuid"]))
    env_id = str(given.get("env_id") or (record or {}).get("env_id") or TrainConfig().env_id)
    with contextlib.suppress(ValueError):  # said where it is checked, and where it is made
        env_id = environments.resolve(env_id)
    return file.of(env_id) | dict(drawn or {})


def _algo_of(argv: Sequence[str], drawn: Mapping[str, Any] | None) -> str:
    """Return the algorithm that is named anywhere; it decides what settings there are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--algo", "--config"):
        parser.add_argument(name, default="")
    try:
        given, _ = parser.parse_known_args(argv)
        every = set().union(*map(known_settings, AGENTS))
        file = (
            read_yaml(given.config, every, environments.check_env_id, lists=drawn is not None).settings
            if given.config
            else {}
        )
    except (UserError, argparse.ArgumentError):  # said where all of it is read
        given, file = argparse.Namespace(algo=""), {}
    algo = given.algo or (drawn or {}).get("algo") or file.get("algo", "")
    return str(algo) if algo in AGENTS else "ppo"


def check(settings: Settings) -> None:
    """Refuse settings that are fine one by one and wrong together.

    Raises:
        UserError: saying what to change.
    """
    if settings.common.task == "eval":
        here, there = settings.evaluation.model_path, settings.evaluation.wandb_run_path
        if not here and not there:
            raise UserError("--task=eval needs --model_path=data/checkpoints/<experiment>, or --wandb_run_path")
        if here and there:
            raise UserError("--model_path and --wandb_run_path name two checkpoints: give one of them")
        if settings.evaluation.wandb_download_replace and not there:
            raise UserError("--wandb_download_replace needs --wandb_run_path=user/project/run")
        if there:
            parse_run_path(there)
        if settings.tracking.tensorboard:
            raise UserError("--tensorboard belongs to --task=train, not to --task=eval")
        return
    if settings.common.task in ("list_envs", "demos", "report"):
        _check_reader(settings)
        return
    train, agent = settings.train, settings.agent
    if train.rollout_len % train.num_envs:
        raise UserError(f"--rollout_len={train.rollout_len} is not a multiple of --num_envs={train.num_envs}")
    for name in ("batch_size", "d_batch_size") if agent.FROM_ROLLOUTS else ():
        if (size := getattr(agent, name, 0)) > train.rollout_len:
            raise UserError(f"--{name}={size} is larger than --rollout_len={train.rollout_len}")
    if getattr(agent, "rpo_alpha", 0) and agent.target_kl:
        raise UserError("--target_kl with --rpo_alpha: its moves count as divergence; leave one out")
    if agent_class(train.algo).LEARNS_FROM_DEMOS and not settings.imitation.expert_path:
        raise UserError(f"--algo={train.algo} learns from demonstrations: --expert_path=data/demos/<environment>")
    if not getattr(agent, "expert_model", "somebody"):
        raise UserError(f"--algo={train.algo} asks an expert: --expert_model=data/checkpoints/<experiment>")
    if Path(train.uuid).name != train.uuid or train.uuid in (".", ".."):
        raise UserError(f"--uuid={train.uuid}: a name, not a path")
    if len(train.uuid.encode()) > MAX_NAME:
        raise UserError(f"--uuid={train.uuid}: a name of at most {MAX_NAME} bytes")


def _check_reader(settings: Settings) -> None:
    """Refuse what has no effect on a task that only reads.

    Raises:
        UserError: naming it, or what is missing.
    """
    task = settings.common.task
    own = set().union(
        *(declared_settings(cls) for field, cls in config_groups(task, "").values() if field != "common")
    )
    if idle := sorted(settings.explicit - own - {"task", "config", "num_workers", "data_dir"}):
        raise UserError(f"--{idle[0]} has no effect on --task={task}")
    if task == "demos" and not settings.imitation.expert_path:
        raise UserError("--task=demos needs --expert_path=data/demos/<environment>: which demonstrations?")
    if task == "report" and not settings.report.study.strip(", "):
        raise UserError("--task=report needs --study=<prefix>: which runs of data/logs?")
