"""What is run: settings, name, folders, and a record of all of it."""

from __future__ import annotations

import dataclasses
import logging
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import AGENTS, agent_class
from helpers.config import build, build_parser, param, read_flags, read_yaml, settings_of, to_seconds
from helpers.demos import ImitationConfig
from helpers.errors import UserError
from helpers.trackers import TrackingConfig

if TYPE_CHECKING:
    from helpers.comm import Comm

DESCRIPTION = "Train and evaluate reinforcement-learning agents, with one worker or, under mpiexec, with many."
EPILOG = """Examples:
  python main.py --task=train --env_id=Hopper --num_timesteps=1e6;
  mpiexec -n 2 python main.py --task=train --config=tasks/train_mujoco_ppo.yaml --seed=1;
  python main.py --task=eval --model_path=data/checkpoints/NAME --iter_num=best --num_trajs=10 --record"""
NAME_FIRST = (
    "brave",
    "calm",
    "clever",
    "eager",
    "gentle",
    "happy",
    "keen",
    "lively",
    "merry",
    "nimble",
    "quick",
    "wise",
)
NAME_SECOND = ("badger", "crane", "falcon", "fox", "gecko", "hare", "heron", "ibex", "lynx", "otter", "raven", "wolf")


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Settings of every task."""

    task: str = param("train", "what to do", choices=("train", "eval"))
    config: str = param("", "YAML file with settings; the command line overrides it")
    seed: int | None = param(None, "seed of everything random (train: 0; eval: the checkpoint's)", low=0)
    num_workers: int | None = param(None, "check that this many workers run; mpiexec -n starts them", low=1)
    data_dir: str = param("data", "folder for checkpoints, logs and evaluations")
    cuda: bool = param(False, "networks on the GPU")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run, whatever the algorithm."""

    algo: str = param("ppo", "algorithm", choices=lambda: tuple(AGENTS))
    env_id: str = param("Hopper", "environment; without a version the newest one")
    uuid: str = param("", "name of the experiment; a readable one is made up where it is empty")
    num_envs: int = param(16, "environments of each worker", low=1)
    rollout_len: int = param(2048, "environment steps of each worker per iteration, over all its environments", low=1)
    num_timesteps: int = param(10_000_000, "end after this many environment steps over all workers", low=1)
    num_iters: int | None = param(None, "end after this many iterations", low=1)
    execution_time: str = param("", "end after this wall-clock time: D-HH:MM:SS or HH:MM:SS", check=to_seconds)
    save_frequency: int = param(50, "iterations between checkpoints", low=1)
    eval_frequency: int = param(25, "iterations between evaluations, 0 for only one at the end", low=0)
    eval_episodes: int = param(10, "episodes of an evaluation, with the deterministic policy", low=1)
    hash_frequency: int = param(10, "iterations between checks that all workers agree, 0 for none", low=0)
    compile: bool | None = param(None, "compile the update (default: where it pays)")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Settings of an evaluation; algorithm, environment and networks come from the checkpoint."""

    model_path: str = param("", "folder of checkpoints: data/checkpoints/<experiment>")
    iter_num: str = param("best", "which of them: an iteration, best or last")
    num_trajs: int = param(10, "episodes to play", low=1)
    render: bool = param(False, "show the episodes in a window, or write videos where there is no display")
    record: bool = param(False, "write the episodes as mp4 videos")
    save_traj: bool = param(False, "write the episodes as demonstrations (HDF5)")


@dataclass(frozen=True)
class Settings:
    """Everything the user set, by group."""

    common: CommonConfig
    tracking: TrackingConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    agent: Any = None  # of the algorithm's own config class
    evaluation: EvalConfig = field(default_factory=EvalConfig)

    def flat(self) -> dict[str, Any]:
        """Return name → value of every setting of a training run."""
        groups = (self.common, self.train, self.agent, self.imitation, self.tracking)
        return {name: value for group in groups for name, value in dataclasses.asdict(group).items()}


def groups_of(task: str, algo: str) -> dict[str, tuple[str, type]]:
    """Return title → (field of `Settings`, config class) of the settings that a task uses."""
    tracking: dict[str, tuple[str, type]] = {"Weights & Biases": ("tracking", TrackingConfig)}
    common: dict[str, tuple[str, type]] = {"every task": ("common", CommonConfig)}
    if task == "eval":
        return common | {"--task=eval": ("evaluation", EvalConfig)} | tracking
    return {
        **common,
        "--task=train": ("train", TrainConfig),
        f"--algo={algo}": ("agent", agent_class(algo).Config),
        "imitation": ("imitation", ImitationConfig),
        **tracking,
    }


def parse(argv: Sequence[str]) -> Settings:
    """Return the settings of a command line and of the YAML file it may name.

    Raises:
        UserError: for anything unknown, of the wrong type, out of range or that does not fit together.
    """
    algo = next((a.split("=", 1)[1] for a in argv if a.startswith("--algo=")), "ppo")
    algo = algo if algo in AGENTS else "ppo"
    groups = groups_of("train", algo) | groups_of("eval", algo)
    flags = read_flags(build_parser(DESCRIPTION, EPILOG, {t: cls for t, (_, cls) in groups.items()}), argv)
    known = {name for _, cls in groups.values() for name in settings_of(cls)}
    path = str(flags.get("config", ""))
    file = read_yaml(path, known) if path else {}
    task = build(CommonConfig, flags, file, path).task
    used = groups_of(task, build(TrainConfig, flags, file, path).algo)
    accepted = {name for _, cls in used.values() for name in settings_of(cls)}
    for name in [*flags, *file]:
        if name not in accepted:
            other = "train" if task == "eval" else "eval"
            raise UserError(f"--{name} belongs to --task={other}, not to --task={task}")
    settings = Settings(**{group: build(cls, flags, file, path) for group, cls in used.values()})
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Refuse settings that are fine one by one and wrong together.

    Raises:
        UserError: saying what to change.
    """
    if settings.common.task == "eval":
        if not settings.evaluation.model_path:
            raise UserError("--task=eval needs --model_path=data/checkpoints/<experiment>")
        return
    train, agent = settings.train, settings.agent
    if train.rollout_len % train.num_envs:
        raise UserError(f"--rollout_len={train.rollout_len} is not a multiple of --num_envs={train.num_envs}")
    if agent.batch_size > train.rollout_len:
        raise UserError(f"--batch_size={agent.batch_size} is larger than --rollout_len={train.rollout_len}")
    if Path(train.uuid).name != train.uuid or train.uuid in (".", ".."):
        raise UserError(f"--uuid={train.uuid}: a name, not a path")


def git_sha() -> str:
    """Return the commit of this program, short; ``nogit`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=7", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "nogit"


class ExperimentInitializer:
    """One training run: its settings, its name, its folders.

    Raises:
        UserError: where the experiment exists already, or its folders cannot be written.
    """

    def __init__(self, settings: Settings, comm: Comm, env_id: str) -> None:
        self.settings = settings
        self.env_id = env_id  # full, with its version
        self.seed = settings.common.seed or 0
        self.name = comm.broadcast(settings.train.uuid or self._full_name(comm.size))
        data = Path(settings.common.data_dir)
        self.checkpoints = data / "checkpoints" / self.name
        self.logs = data / "logs" / self.name
        problem = comm.broadcast(self._create(data) if comm.rank == 0 else "")
        if problem:
            raise UserError(problem)

    @property
    def group(self) -> str:
        """Name without the seed: what runs that differ in nothing else share."""
        return self.name.removesuffix(f".seed{self.seed:02}")

    def _full_name(self, workers: int) -> str:
        chance = random.SystemRandom()
        readable = f"{chance.choice(NAME_FIRST)}_{chance.choice(NAME_SECOND)}_{chance.randrange(1000):03}"
        train, demos = self.settings.train, self.settings.imitation.num_demos
        env = self.env_id.replace("/", "_").replace(":", "_")
        return f"{readable}.{git_sha()}.{env}.{train.algo}.workers{workers}.demos{demos:02}.seed{self.seed:02}"

    def _create(self, data: Path) -> str:
        for folder in (self.checkpoints, self.logs):
            if folder.exists():
                return f"experiment '{self.name}' exists already ({folder}); choose another --uuid or remove it"
        try:
            self.checkpoints.mkdir(parents=True)
            self.logs.mkdir(parents=True)
        except OSError as error:
            return f"cannot write to --data_dir={data}: {error.strerror}"
        return ""

    def record(self, workers: int) -> dict[str, Any]:
        """Return what was run: every setting, the full environment id, seed, workers, commit and command."""
        flat = self.settings.flat()
        flat |= {"env_id": self.env_id, "seed": self.seed, "uuid": self.name, "num_workers": workers}
        return flat | {"git_sha": git_sha(), "command": " ".join(sys.argv)}

    def write_record(self, workers: int) -> None:
        """Write ``config.yaml`` beside the checkpoints and into the log folder, and start ``log.txt``."""
        import yaml

        text = yaml.safe_dump(self.record(workers), sort_keys=False)
        for folder in (self.checkpoints, self.logs):
            (folder / "config.yaml").write_text(text)
        handler = logging.FileHandler(self.logs / "log.txt")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)


def settings_from_record(record: dict[str, Any]) -> Settings:
    """Return the settings of a run from the record in its checkpoint; keys that no class knows are passed over."""
    groups = groups_of("train", record["algo"])
    built = {}
    for group, cls in groups.values():
        built[group] = cls(**{name: record[name] for name in settings_of(cls) if name in record})
    return Settings(**built)
