"""Settings of a study and of its launch, and the tables of launchers and calibers."""

from __future__ import annotations

from dataclasses import dataclass

from milozero.helpers.config.params import param
from milozero.helpers.config.values import to_seconds
from milozero.helpers.errors import UserError
from milozero.tracking.names import check_wandb_name

LAUNCHERS = {"tmux": "milozero.studies.launchers.tmux:Tmux", "slurm": "milozero.studies.launchers.slurm:Slurm"}
ARGS_METHODS = ("full", "yaml", "minimal")
MAX_JOBS = 10_000  # of one study: catches typos
DEFAULT_NUM_WORKERS = 2  # of a job, if neither the command line nor the task file sets it


@dataclass(frozen=True)
class Caliber:
    """Time limit and partitions of a SLURM job."""

    time_limit: str  # in SLURM's notation
    cpu_partition: str  # of jobs without a GPU
    gpu_partition: str

    @property
    def signal_lead_s(self) -> int:
        """Seconds between the signal to save and the time limit: 5 % of the limit, between 1 and 10 minutes."""
        seconds = to_seconds(self.time_limit)
        return int(min(600, max(60, seconds / 20), seconds / 2))


CALIBERS = {
    "debug": Caliber("00:05:00", "shared-cpu", "shared-gpu"),
    "veryveryshort": Caliber("00:30:00", "shared-cpu", "shared-gpu"),
    "veryshort": Caliber("02:00:00", "shared-cpu", "shared-gpu"),
    "short": Caliber("06:00:00", "shared-cpu", "shared-gpu"),
    "long": Caliber("12:00:00", "shared-cpu", "shared-gpu"),
    "daylong": Caliber("1-00:00:00", "public-cpu", "public-gpu"),
    "verylong": Caliber("2-00:00:00", "public-cpu", "public-gpu"),
    "veryverylong": Caliber("3-00:00:00", "public-cpu", "public-gpu"),
    "veryveryverylong": Caliber("4-00:00:00", "public-cpu", "public-gpu"),
}


def check_url(text: str) -> None:
    """Raise a UserError unless the scheme of a URL is http or https."""
    if text and not text.startswith(("http://", "https://")):
        raise UserError("must start with http:// or https://")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What a study runs over."""

    prefix: str = param("study", "name of the study, and prefix of its jobs' names")
    config: str = param("", "task file of every job", is_path=True)
    env_bundle: str = param(
        "",
        "environments: the name of a bundle, or comma-separated ids (default: the task file's `benchmark`, else "
        "debug)",
    )
    overrides: tuple[str, ...] = param(
        (),
        "settings that replace those of the task file in every job: --set num_timesteps=2e4 p_lr=1e-3",
        alias="set",
    )
    num_seeds: int = param(1, "number of seeds per environment, starting at 0", low=1, high=MAX_JOBS)
    num_demos: tuple[int, ...] = param(
        (), "numbers of demonstrations, one job for each; 0 uses all of them", low=0, alias="list"
    )
    demo_dir: str = param(
        "", "folder with one folder of demonstrations per environment, such as data/demos", is_path=True
    )
    num_workers: int | None = param(
        None, f"workers per job (default: the task file's num_workers, else {DEFAULT_NUM_WORKERS})", low=1
    )
    sweep: bool = param(False, "hyper-parameter search: each trial draws one value from each list in the task file")
    num_trials: int = param(1, "trials of a sweep, each over all environments and seeds", low=1, high=MAX_JOBS)
    sweep_seed: int = param(0, "seed for drawing the trials", low=0)
    data_dir: str = param("data", "folder for the files and results of the jobs", is_path=True)
    wandb_entity: str = param("", "Weights & Biases user or team", check=check_wandb_name)
    wandb_project: str = param(
        "",
        "Weights & Biases project (default: the study's name if another --wandb flag is given)",
        check=check_wandb_name,
    )


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """How the jobs of a study are started."""

    deployment: str = param(
        "tmux", "run the jobs in tmux on this machine, or on a SLURM cluster", choices=lambda: tuple(LAUNCHERS)
    )
    deploy_now: bool = param(True, "start the jobs; --no-deploy_now only writes their files and shows the plan")
    caliber: str = param(
        "short",
        "SLURM: partition and time limit of a job, which saves, requeues itself and resumes until it is finished",
        choices=lambda: tuple(CALIBERS),
    )
    args_method: str = param(
        "full",
        "how a job's command passes its settings: `full`, every parameter; `minimal`, those that differ from the "
        "defaults; `yaml`, in a file next to the script",
        choices=ARGS_METHODS,
    )
    clear: bool = param(False, "remove a job's script and settings file when it ends (logs and study.json stay)")
    conda_env: str = param("", "conda environment of the jobs (default: the Python that runs this command)")
    cluster: str = param(
        "",
        "SLURM: YAML file with the site's partitions, modules, ... (default: cluster.yaml if it exists)",
        is_path=True,
    )
    docker: bool = param(False, "run the jobs in a container: Docker with tmux, Apptainer or Singularity with SLURM")
    docker_image: str = param("", "Docker image; with SLURM, the path or address of an image", is_path=True)
    wandb_upgrade: bool = param(False, "upgrade the wandb package first; in a container, when each job starts")
    wandb_base_url: str = param("", "Weights & Biases server, if it is self-hosted", check=check_url)
    wandb_api_key: str = param("", "Weights & Biases key; prefer the environment variable WANDB_API_KEY", secret=True)


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What spawner.py prints."""

    quiet: bool = param(False, "print only warnings, errors and the result")


@dataclass(frozen=True, kw_only=True)
class FollowConfig:
    """What to do with a launched study."""

    status: str = param("", "show the state, progress and log file of each job of this study")
    stop: str = param("", "stop the jobs of this study; each saves a checkpoint first")
    resubmit: str = param("", "restart the failed, stopped and unstarted jobs of this study from their checkpoints")
