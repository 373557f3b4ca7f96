"""How the jobs of a study are started: the settings, and the launchers by name."""

from __future__ import annotations

from dataclasses import dataclass

from milozero.helpers.config.params import param, usable_path
from milozero.helpers.errors import UserError
from milozero.studies.calibers import CALIBERS

LAUNCHERS = {"tmux": "milozero.studies.launchers.tmux:Tmux", "slurm": "milozero.studies.launchers.slurm:Slurm"}
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
