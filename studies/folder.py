"""The files of a study, in ``data/spawn/<study>/``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from milozero.experiment.status import read_status
from milozero.helpers.config.params import MAX_NAME_BYTES, build
from milozero.helpers.errors import UserError, did_you_mean
from milozero.helpers.files import read_json, write_atomically
from milozero.helpers.locks import Lock
from milozero.studies.config import LAUNCHERS, LaunchConfig

METADATA_FILE = "study.json"
MAX_STUDY_NAME_BYTES = MAX_NAME_BYTES // 2  # leaves room for environment, trial and seed
JobSuffix = Literal[
    ".sh",  # the script
    ".yaml",  # the task file (``--args_method=yaml``)
    ".out",  # stdout and stderr on SLURM, stderr in tmux
    ".exit",  # the exit code
    ".key",  # the Weights & Biases key, readable only by its owner; removed when the job ends
    ".window",  # locked by the job's tmux window while the job is pending or running
]


@dataclass
class StudyMetadata:
    """The jobs of a study and how they were launched, to follow, stop and resubmit them."""

    launch: dict[str, Any] = field(default_factory=dict)  # LaunchConfig without its secrets
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)  # name → settings, cwd, deployment, job_id

    def launch_config(self, **overrides: Any) -> LaunchConfig:
        """Return the launch settings, without those that no longer exist.

        Raises:
            UserError: if the metadata has been edited and a setting is invalid.
        """
        return build(LaunchConfig, {}, self.launch | overrides, METADATA_FILE)


class StudyFolder:
    """Paths, metadata and lock of a study; the folder need not exist yet."""

    def __init__(self, data_dir: str, name: str) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.name = name
        self.path = self.data_dir / "spawn" / name

    def job_file(self, job: str, suffix: JobSuffix) -> Path:
        """Return the path of a job's file."""
        return self.path / f"{job}{suffix}"

    def read_status(self, job: str) -> dict[str, Any]:
        """Return the content of a run's ``status.json``; empty if it cannot be read."""
        return read_status(self.data_dir / "logs" / job)

    def read_exit_code(self, job: str) -> int | None:
        """Return the exit code of a job, or None if it has not written one."""
        try:
            return int(self.job_file(job, ".exit").read_text())
        except (OSError, ValueError):
            return None

    def read_key(self) -> str:
        """Return the Weights & Biases key of the jobs that have not ended; empty if there is none."""
        return next((path.read_text() for path in sorted(self.path.glob("*.key"))), "")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other spawners from changing the study.

        Raises:
            UserError: if another spawner holds the lock, or the folder is not writable.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = Lock(self.path)
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    def write(self, path: Path, text: str, mode: int = 0o644) -> None:
        """Write a file of the study atomically, or raise a UserError."""

        def create(temporary: Path) -> None:
            with open(temporary, "w", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(text)

        try:
            write_atomically(path, create)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from None

    def archive_previous(self, job: str) -> None:
        """Remove a job's previous exit code and rename its previous output."""
        self.job_file(job, ".exit").unlink(missing_ok=True)
        if (output := self.job_file(job, ".out")).exists():
            output.replace(self.path / f"{job}.out.before")

    def read_metadata(self) -> StudyMetadata:
        """Return the study's metadata; empty if nothing was launched yet.

        Raises:
            UserError: if the file cannot be read.
        """
        path = self.path / METADATA_FILE
        try:
            metadata = StudyMetadata(**read_json(path))
            for job in metadata.jobs.values():
                job.setdefault("cwd", str(Path(__file__).resolve().parent.parent))  # of older studies
                _ = dict(job["settings"])["uuid"], LAUNCHERS[job["deployment"]], job["job_id"]
        except (FileNotFoundError, NotADirectoryError):
            return StudyMetadata()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"cannot read {path} ({error}); remove it to start the study from scratch") from None
        return metadata

    def write_metadata(self, metadata: StudyMetadata) -> None:
        """Write the study's metadata, or raise a UserError."""
        self.write(self.path / METADATA_FILE, json.dumps(asdict(metadata), indent=1) + "\n")

    def require_exists(self) -> StudyFolder:
        """Return this folder, or raise a UserError that suggests similar names if there is no such study."""
        if not (self.path / METADATA_FILE).is_file():
            names = sorted(path.parent.name for path in self.path.parent.glob(f"*/{METADATA_FILE}"))
            hint = did_you_mean(self.name, names) or (f"; existing studies: {', '.join(names[:20])}" if names else "")
            raise UserError(f"no study '{self.name}' in {self.path.parent}{hint}")
        return self


def check_study_name(name: str, flag: str = "prefix") -> None:
    """Raise a UserError unless the name of a study, given by `flag`, is a valid folder name."""
    if not name or Path(name).name != name or name in (".", ".."):
        raise UserError(f"--{flag}={name}: must be a name, not a path")
    if len(name.encode()) > MAX_STUDY_NAME_BYTES:
        raise UserError(f"--{flag}={name}: must be at most {MAX_STUDY_NAME_BYTES} bytes long")
