"""The parts that all job scripts share, as pure functions: arguments of ``main.py`` and lines of bash."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from milozero.experiment.resume import default_values
from milozero.helpers.config.flags import to_flags
from milozero.helpers.errors import UserError
from milozero.studies.config import LaunchConfig
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job

# Variables that jobs inherit from the launching shell: the path of user modules, permission to run MPI as root, ...
FORWARDED_ENV = ("PYTHONPATH", "OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "WANDB_MODE", "MUJOCO_GL")
# Installs into a temporary folder, because the rest of a container may be read-only.
UPGRADE_WANDB = (
    'd=$(mktemp -d) && pip install --quiet --target "$d" --upgrade wandb && PYTHONPATH="$d:$PYTHONPATH" exec "$@"'
)
DOCKER_TIMEOUT_S = 30.0  # for the daemon to answer
WORKSPACE = "/workspace"  # where containers mount this repository


@dataclass(frozen=True)
class LaunchEnv:
    """The environment from which a study is launched."""

    root: Path  # of this repository
    python: Path  # the interpreter
    conda: str  # path of conda; "conda" if it is not on the PATH
    variables: Mapping[str, str] = field(default_factory=dict)  # forwarded to the jobs

    @classmethod
    def current(cls) -> LaunchEnv:
        """Return the environment of this process."""
        return cls(
            root=Path(__file__).resolve().parent.parent.parent,
            python=Path(sys.executable),
            conda=os.environ.get("CONDA_EXE") or shutil.which("conda") or "conda",
            variables=_forwarded_variables(),
        )


def _forwarded_variables() -> dict[str, str]:
    """Return the variables that jobs inherit, with absolute paths: a study may be resubmitted from another folder."""
    variables = {name: os.environ[name] for name in FORWARDED_ENV if name in os.environ}
    if paths := variables.get("PYTHONPATH"):
        variables["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
    return variables


def build_arguments(job: Job, args_method: str, settings_path: Path) -> list[str]:
    """Return the arguments of ``main.py`` for a job; with ``yaml``, its settings are in the file `settings_path`."""
    if args_method == "yaml":
        return [f"--config={settings_path}"]
    values = job.to_dict()
    if args_method == "minimal":
        defaults = default_values(job.settings.train.algo)
        values = {name: value for name, value in values.items() if value != defaults[name]}
    return to_flags(values)


def quote(word: object) -> str:
    """Return a word quoted for bash."""
    return shlex.quote(str(word))


def main_path(launch: LaunchConfig, env: LaunchEnv) -> str:
    """Return the path of ``main.py`` for a job; only containers have this repository as their working directory."""
    return "main.py" if launch.docker else str(env.root / "main.py")


def setup_lines(job: Job, launch: LaunchConfig, folder: StudyFolder, env: LaunchEnv) -> list[str]:
    """Return the lines that set a job's working directory, variables and Python environment."""
    # If HOME is unset, bash sets it without exporting it; Open MPI needs it.
    lines = ["export HOME", f"cd {quote(env.root if launch.docker else job.cwd)}"]
    lines += [f"export {name}={quote(value)}" for name, value in env.variables.items()]
    if launch.wandb_base_url:
        lines.append(f"export WANDB_BASE_URL={quote(launch.wandb_base_url)}")
    if launch.wandb_api_key:  # from a file: other users can see scripts and process lists
        path = quote(folder.job_file(job.name, ".key"))  # removed when the job ends
        lines.append(f"if [ -f {path} ]; then WANDB_API_KEY=$(<{path}); export WANDB_API_KEY; fi")
    if launch.docker:
        return lines
    if launch.conda_env:
        hook = f'eval "$({quote(env.conda)} shell.bash hook)"'
        return [*lines, hook, f"conda activate {quote(launch.conda_env)}"]
    return [*lines, f"export PATH={quote(env.python.parent)}:$PATH"]


def bind_mounts(folder: StudyFolder, env: LaunchEnv, sources: Sequence[str]) -> list[str]:
    """Return ``host:container`` paths to mount: this repository, and the folders that a job reads and writes."""
    paths = dict.fromkeys([str(folder.data_dir), *sources])
    return [f"{env.root}:{WORKSPACE}", *(f"{path}:{path}" for path in paths)]


def check_bind_mounts(jobs: Iterable[Job], folder: StudyFolder, env: LaunchEnv) -> None:
    """Raise a UserError if the path of a folder to mount has a colon or comma, the separators of mount options."""
    for path in {str(env.root), str(folder.data_dir), *(path for job in jobs for path in job.settings.sources)}:
        if ":" in path or "," in path:
            raise UserError(f"--docker: cannot mount {path}: its name contains a colon or comma")


def check_docker() -> None:
    """Raise a UserError, with Docker's own message, if docker is not installed or its daemon does not answer."""
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=DOCKER_TIMEOUT_S)
    except FileNotFoundError:
        raise UserError("--docker: docker is not installed") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"--docker: the daemon did not answer in {DOCKER_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise UserError(f"--docker: cannot run docker: {error.strerror}") from None
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"docker failed with exit code {result.returncode}"]
        raise UserError(f"--docker: {lines[-1]}")


def container_command(command: Sequence[str], launch: LaunchConfig) -> list[str]:
    """Return the words that run a command inside a container."""
    return ["sh", "-c", UPGRADE_WANDB, "sh", *command] if launch.wandb_upgrade else list(command)
