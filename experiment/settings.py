"""Groups of settings, and which task uses which of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from milozero.agents import AGENTS, config_class
from milozero.demonstrations.dataset import ImitationConfig
from milozero.helpers.config.params import Param, declared_settings, param, usable_name, usable_path
from milozero.helpers.config.values import to_kwargs, to_seconds
from milozero.helpers.seeding import Purpose
from milozero.tracking.tracker import TrackingConfig

TASKS = ("train", "eval", "list_envs", "demos", "report")
# Upper bounds that catch typos before they exhaust the machine.
MAX_ENVS, MAX_ROLLOUT_LEN, MAX_EPISODES = 65_536, 2**24, 1_000_000
DEFAULT_EVAL_MAX_STEPS = 10_000  # of an environment without a time limit; takes seconds, not hours
# of ``--task=eval``
EPISODE_SEEDS = {"test": Purpose.TEST, "training": Purpose.EVALUATION, "demonstrations": Purpose.SAVED_EPISODES}
# settings of a training run that name its inputs
INPUT_PATHS = ("expert_path", "init_from", "expert_model", "reward_path")


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Settings of all tasks."""

    task: str = param("train", "what to do", choices=TASKS, mutable_on_resume=True)
    config: str = param("", "YAML task file; flags override its settings", is_path=True, mutable_on_resume=True)
    seed: int | None = param(None, "random seed (default: 0; eval: the seed of the checkpoint)", low=0)
    num_workers: int | None = param(
        None,
        "number of workers; under mpiexec or srun, fail unless they started this many (default: what they started, "
        "else 1)",
        low=1,
        mutable_on_resume=True,
    )
    data_dir: str = param(
        "data", "folder for checkpoints, logs and evaluations", is_path=True, mutable_on_resume=True
    )
    quiet: bool = param(
        False, "print only warnings, errors and the result; all files are written as usual", mutable_on_resume=True
    )
    cuda: bool = param(False, "put the networks on the GPU", mutable_on_resume=True)
    env_kwargs: str = param(
        "",
        "keyword arguments of the environment: name=value,name=value (eval: added to those of the checkpoint)",
        check=to_kwargs,
    )
    execution_time: str = param(
        "",
        "wall-clock time limit: D-HH:MM:SS or HH:MM:SS; training saves and stops, eval keeps the finished episodes",
        check=to_seconds,
        mutable_on_resume=True,
    )
    watchdog: str = param(
        "01:00:00",
        "maximum duration of an iteration (eval: of an episode), after which the job is ended; 0 disables it",
        check=to_seconds,
        mutable_on_resume=True,
    )
    eval_max_steps: int | None = param(
        None,
        f"maximum steps of an evaluation episode (default: {DEFAULT_EVAL_MAX_STEPS} if the environment has no time "
        "limit; eval: the value of the checkpoint)",
        low=1,
        mutable_on_resume=True,
    )
    eval_stochastic: bool = param(
        False,
        "sample actions in evaluations instead of taking the most probable ones (default: False; eval: the value of "
        "the checkpoint)",
    )
    env_module: str = param(
        "",
        "comma-separated modules of your own environments, to import for a checkpoint that uses them",
        mutable_on_resume=True,
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run, for all algorithms."""

    algo: str = param("ppo", "algorithm", choices=lambda: tuple(AGENTS))
    env_id: str = param("Hopper", "environment id; without a version, the newest one")
    benchmark: str = param(
        "", "bundle of a task file: the default of spawner.py --env_bundle", mutable_on_resume=True
    )
    uuid: str = param(
        "", "name of the experiment (default: a random readable name)", check=usable_name, mutable_on_resume=True
    )
    num_envs: int = param(16, "environments per worker", low=1, high=MAX_ENVS)
    rollout_len: int = param(
        2048, "environment steps per worker and iteration, summed over its environments", low=1, high=MAX_ROLLOUT_LEN
    )
    num_timesteps: int = param(
        10_000_000, "total environment steps, summed over all workers", low=1, mutable_on_resume=True
    )
    num_iters: int | None = param(
        None, "maximum number of iterations (default: no limit)", low=1, mutable_on_resume=True
    )
    resume: str = param(
        "no",
        "resume experiment --uuid; auto: start it if it does not exist",
        choices=("no", "yes", "auto"),
        bare="yes",
        mutable_on_resume=True,
    )
    save_frequency: int = param(
        50, "iterations between checkpoints, which do not change what is learned", low=1, mutable_on_resume=True
    )
    keep_checkpoints: int = param(
        0, "number of latest checkpoints to keep, plus best and last; 0 keeps all", low=0, mutable_on_resume=True
    )
    eval_frequency: int = param(
        25, "iterations between evaluations; 0 evaluates only at the end", low=0, mutable_on_resume=True
    )
    eval_episodes: int = param(
        10, "episodes per evaluation, the same each time; 0 disables evaluations", low=0, high=MAX_EPISODES
    )
    record_frequency: int = param(
        0,
        "iterations between videos of an evaluation episode, plus one at the end; 0 records none. Another process "
        "records them, in the folder videos of the logs",
        low=0,
        mutable_on_resume=True,
    )
    sync_check_frequency: int = param(
        10,
        "iterations between checks that all workers have the same networks, optimizers and normalizers; 0 checks "
        "only at the end",
        low=0,
        mutable_on_resume=True,
    )
    compile: bool | None = param(
        None, "compile the update with torch.compile (default: if the run is long enough)", mutable_on_resume=True
    )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Settings of an evaluation. Algorithm, environment and networks come from the checkpoint."""

    model_path: str = param(
        "", "folder with the checkpoints to evaluate: data/checkpoints/<experiment>", is_path=True
    )
    wandb_run_path: str = param(
        "",
        "Weights & Biases run to download checkpoints from, instead of --model_path: user/project/run",
        check=usable_path,
    )
    wandb_download_replace: bool = param(False, "download again, replacing an earlier download")
    iter_num: str = param(
        "best", "checkpoint to evaluate: an iteration, best or last (default: best, or last if there is no best)"
    )
    num_trajs: int = param(10, "number of episodes", low=1, high=MAX_EPISODES)
    episode_seeds: str = param(
        "test",
        "test: new episodes; training: those of the evaluations during training, which selected best.pt; "
        "demonstrations: a third set, which --save_traj uses instead of test",
        choices=tuple(EPISODE_SEEDS),
    )
    render: bool = param(False, "show the episodes in a window; without a display, record videos")
    record: bool = param(False, "record mp4 videos of the episodes")
    save_traj: bool = param(False, "save the episodes as demonstrations (HDF5)")
    eval_name: str = param(
        "",
        "folder name of this evaluation (default: that of the checkpoint, numbered if repeated)",
        check=usable_name,
    )


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Settings of the list of environments."""

    only: str = param("", "show only environments whose suite or id contains this text")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of a report on a study, or on any runs."""

    study: str = param(
        "", "runs to include: a name, or its part before a dot; separate several by commas, * and ? are wildcards"
    )
    format: str = param(
        "", "file format (default: the extension of --out, else html)", choices=("html", "png", "csv", "json")
    )
    out: str = param("", "output file (default: data/reports/<study>.<format>)", is_path=True)


@dataclass(frozen=True)
class Settings:
    """All settings, by group."""

    common: CommonConfig
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    agent: Any = None  # an instance of the algorithm's config class
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    listing: ListConfig = field(default_factory=ListConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    explicit: frozenset[str] = frozenset()  # names set by the command line or the task file

    @property
    def sources(self) -> list[str]:
        """The paths that a training run reads from."""
        paths = [getattr(group, name, "") for group in (self.imitation, self.agent) for name in INPUT_PATHS]
        return [path for path in paths if path]

    def describe_unused(self) -> list[str]:
        """Return one line per group of imitation flags that were set but that the algorithm ignores."""
        discriminator, lines = {"d_perception_stack"}, []
        for ability, used, names in (
            ("LEARNS_FROM_DEMOS", self.agent.learns_from_demos, vars(self.imitation).keys() - discriminator),
            ("HAS_DISCRIMINATOR", self.agent.HAS_DISCRIMINATOR, discriminator),
        ):
            defaults = vars(type(self.imitation)())
            changed = {name for name, value in vars(self.imitation).items() if value != defaults[name]}
            flags = [name for name in vars(self.imitation) if name in names & self.explicit & changed]
            if flags and not used:
                users = ", ".join(name for name in AGENTS if getattr(config_class(name), ability))
                without = (
                    " without expert_mix"
                    if hasattr(self.agent, "expert_mix") and ability == "LEARNS_FROM_DEMOS"
                    else ""
                )
                lines.append(f"{self.train.algo} ignores {', '.join(flags)}{without} (used by {users})")
        return lines

    def flat(self) -> dict[str, Any]:
        """Return name → value of every setting of a training run."""
        groups = (self.common, self.train, self.agent, self.imitation, self.tracking)
        return {name: value for group in groups for name, value in dataclasses.asdict(group).items()}


def config_groups(task: str, algo: str) -> dict[str, tuple[str, type]]:
    """Return title → (field of `Settings`, config class) of the settings that a task uses."""
    common: dict[str, tuple[str, type]] = {"all tasks": ("common", CommonConfig)}
    imitation: dict[str, tuple[str, type]] = {"imitation": ("imitation", ImitationConfig)}
    tracking: dict[str, tuple[str, type]] = {"tracking": ("tracking", TrackingConfig)}
    if task == "list_envs":
        return common | {"--task=list_envs": ("listing", ListConfig)}
    if task == "demos":
        return common | imitation
    if task == "report":
        return common | {"--task=report": ("report", ReportConfig)}
    if task == "eval":
        return common | {"--task=eval": ("evaluation", EvalConfig)} | tracking
    algorithm: dict[str, tuple[str, type]] = {f"--algo={algo}": ("agent", config_class(algo))}
    return common | {"--task=train": ("train", TrainConfig)} | algorithm | imitation | tracking


def used_settings(task: str, algo: str) -> dict[str, tuple[Any, Any, Param]]:
    """Return name → (type, default, declaration) of the settings that a task uses."""
    classes = [cls for _, cls in config_groups(task, algo).values()]
    return {name: declared for cls in classes for name, declared in declared_settings(cls).items()}


def all_settings_names() -> set[str]:
    """Return the names of the settings of all tasks and algorithms."""
    return set().union(*(used_settings(task, algo) for task in TASKS for algo in AGENTS))
