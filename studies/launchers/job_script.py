"""What the job scripts of all launchers have in common: pure functions from words to lines of bash."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from milozero.helpers.errors import UserError
from milozero.studies.folder import StudyFolder
from milozero.studies.launch_config import LaunchConfig

if TYPE_CHECKING:
    from milozero.studies.jobs import Job

# What the shell that starts a study may have set, and its jobs need: where a user's own modules are, and that root
# may use Open MPI.
FORWARDED_ENV = ("PYTHONPATH", "OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "WANDB_MODE", "MUJOCO_GL")
# In a container, where a folder of its own is the one place that is surely writable.
UPGRADE = (
    'd=$(mktemp -d) && pip install --quiet --target "$d" --upgrade wandb && PYTHONPATH="$d:$PYTHONPATH" exec "$@"'
)
WORKSPACE = "/workspace"  # where containers see this program


@dataclass(frozen=True)
class LaunchEnv:
    """Where a study is started."""

    root: Path  # of this program
    python: Path  # that runs it
    conda: str  # the program conda; its bare name where it is not on the PATH
    carried: Mapping[str, str] = field(default_factory=dict)  # variables for the jobs

    @classmethod
    def here(cls) -> LaunchEnv:
        """Return those of this process."""
        return cls(
            root=Path(__file__).resolve().parent.parent.parent,
            python=Path(sys.executable),
            conda=os.environ.get("CONDA_EXE") or shutil.which("conda") or "conda",
            carried={name: os.environ[name] for name in FORWARDED_ENV if name in os.environ},
        )


def quoted(word: object) -> str:
    """Return a word as bash reads it back."""
    return shlex.quote(str(word))


def environment(launch: LaunchConfig, folder: StudyFolder, here: LaunchEnv) -> list[str]:
    """Return the lines that bring a job's shell to the program, its Python and its variables."""
    lines = [f"cd {quoted(here.root)}"]
    lines += [f"export {name}={quoted(value)}" for name, value in here.carried.items()]
    if launch.wandb_base_url:
        lines.append(f"export WANDB_BASE_URL={quoted(launch.wandb_base_url)}")
    if launch.wandb_api_key:  # never in the script itself, nor among a program's arguments
        lines += [f"WANDB_API_KEY=$(<{quoted(folder.key)})", "export WANDB_API_KEY"]
    if launch.docker:
        return lines
    if launch.conda_env:
        hook = f'eval "$({quoted(here.conda)} shell.bash hook)"'
        return [*lines, hook, f"conda activate {quoted(launch.conda_env)}"]
    return [*lines, f"export PATH={quoted(here.python.parent)}:$PATH"]


def mounts(folder: StudyFolder, here: LaunchEnv, sources: Sequence[str]) -> list[str]:
    """Return ``from:to`` of the folders that a container sees: the program, and what jobs read and write."""
    outside = dict.fromkeys([str(folder.data), *sources])
    return [f"{here.root}:{WORKSPACE}", *(f"{path}:{path}" for path in outside)]


def check_mounts(jobs: Iterable[Job], folder: StudyFolder, here: LaunchEnv) -> None:
    """Refuse folders that a container of one of `jobs` cannot be given.

    Raises:
        UserError: where a name has a colon, which separates names there.
    """
    for path in {str(here.root), str(folder.data), *(path for job in jobs for path in job.settings.sources)}:
        if ":" in path or "," in path:
            raise UserError(f"--docker: {path} has a colon or comma in its name, which containers cannot be given")


def in_container(command: Sequence[str], launch: LaunchConfig) -> list[str]:
    """Return the words that run a command inside a container."""
    return ["sh", "-c", UPGRADE, "sh", *command] if launch.wandb_upgrade else list(command)
