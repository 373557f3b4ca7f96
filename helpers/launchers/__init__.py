"""What starts the jobs of a study: one file each, one small protocol. Each is imported when it is first used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from helpers.config import param, usable_path
from helpers.errors import UserError
from helpers.launchers.calibers import CALIBERS

if TYPE_CHECKING:
    from helpers.launchers.folder import StudyFolder
    from helpers.study import Job

LAUNCHERS = {"tmux": "helpers.launchers.tmux:Tmux", "slurm": "helpers.launchers.slurm:Slurm"}
METHODS = ("full", "yaml", "minimal")


def web_address(text: str) -> None:
    """Refuse what is no address of a web server.

    Raises:
        UserError: saying how one begins.
    """
    if text and not text.startswith(("http://", "https://")):
        raise UserError("an address begins with http:// or https://")


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """How the jobs of a study are started."""

    deployment: str = param(
        "tmux", "start the jobs in tmux on this machine, or on a SLURM cluster", choices=lambda: tuple(LAUNCHERS)
    )
    deploy_now: bool = param(True, "start now; --no-deploy_now writes the jobs' files and shows what would run")
    caliber: str = param(
        "short",
        "SLURM: longest time of a job in one piece, after which it goes on in another, and its partition",
        choices=lambda: tuple(CALIBERS),
    )
    args_method: str = param(
        "full",
        "what a job's command spells out: `full`, every parameter; `minimal`, those that differ from the defaults; "
        "`yaml`, the name of a file beside the script that has them",
        choices=METHODS,
    )
    clear: bool = param(False, "remove a job's files when it has ended (logs and the study's record stay)")
    conda_env: str = param("", "conda environment of the jobs (default: the Python of this command)")
    cluster: str = param(
        "",
        "SLURM: file of a site's partitions, modules, ... (default: cluster.yaml if there is one)",
        check=usable_path,
    )
    docker: bool = param(False, "run in a container: Docker with tmux, Apptainer or Singularity with SLURM")
    docker_image: str = param("", "Docker image, or on a cluster the path or address of an image")
    wandb_upgrade: bool = param(False, "upgrade the wandb package first; in a container, at each job's start")
    wandb_base_url: str = param("", "Weights & Biases server, where it is a personal instance", check=web_address)
    wandb_api_key: str = param(
        "", "Weights & Biases key, better in the variable WANDB_API_KEY: it is taken from there", secret=True
    )


class Launcher(Protocol):
    """Starts jobs, knows which of them wait or run, and stops them.

    ``check`` → ``script`` of each job, which the caller writes → ``start`` → ``active`` → ``stop``.
    """

    def __init__(self, folder: StudyFolder, launch: LaunchConfig) -> None:
        """Take over where the files of the study lie and how it is launched."""

    place_before: str  # of a job that is about to be started; empty where only starting it tells

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse what could not start here.

        Raises:
            UserError: saying what is missing.
        """

    def script(self, job: Job, arguments: Sequence[str]) -> str:
        """Return the text of a job's script, for `arguments` of ``main.py``."""

    def start(self, jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
        """Start jobs whose scripts are written; yield (name, place) of each as it is started.

        The place is what `active` and `stop` need to know.

        Raises:
            UserError: where one cannot be started.
        """

    def active(self, places: Mapping[str, str]) -> dict[str, str]:
        """Return name → ``pending`` or ``running`` of those jobs that are either.

        Raises:
            UserError: where that cannot be found out.
        """

    def stop(self, places: Mapping[str, str], patience: float) -> None:
        """End jobs, with a checkpoint where they come to it within `patience` seconds; return when all have ended.

        Raises:
            UserError: where that cannot be done.
        """

    def by_hand(self, name: str) -> str:
        """Return the command that starts one job."""

    def watch(self) -> str:
        """Return the command that shows the jobs at work."""


def launcher_class(deployment: str) -> type[Launcher]:
    """Return the class of a launcher in `LAUNCHERS`."""
    module, _, name = LAUNCHERS[deployment].partition(":")
    cls: type[Launcher] = getattr(importlib.import_module(module), name)
    return cls
