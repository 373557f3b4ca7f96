"""The files of one study, all in ``data/spawn/<study>/``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from milozero.experiment.status import read_status
from milozero.helpers.config.params import build
from milozero.helpers.errors import UserError, did_you_mean
from milozero.studies.launch_config import LAUNCHERS, LaunchConfig

RECORD = "study.json"


@dataclass
class Record:
    """What was started and how: enough to look after the jobs, and to start them again."""

    launch: dict[str, Any] = field(default_factory=dict)  # LaunchConfig, without its secrets
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)  # name → settings, deployment, place

    def launched(self, deployment: str) -> LaunchConfig:
        """Return how jobs of a deployment were launched; what this program does not know any more is left out.

        Raises:
            UserError: where the record has been edited, and not well.
        """
        return build(LaunchConfig, {}, self.launch | {"deployment": deployment}, RECORD)


class StudyFolder:
    """Where the files of a study are; a study without one has none yet.

    Args:
        data_dir: of the study.
        name: of the study.
    """

    def __init__(self, data_dir: str, name: str) -> None:
        self.data = Path(data_dir).absolute()
        self.name = name
        self.path = self.data / "spawn" / name

    @property
    def key(self) -> Path:
        """The Weights & Biases key, which only its owner can read."""
        return self.path / ".wandb_api_key"

    def script(self, job: str) -> Path:
        """Return where a job's script is."""
        return self.path / f"{job}.sh"

    def settings(self, job: str) -> Path:
        """Return where a job's task file is, if its arguments name one."""
        return self.path / f"{job}.yaml"

    def output(self, job: str) -> Path:
        """Return where what a job prints goes: on a cluster all of it, in tmux what it says on stderr."""
        return self.path / f"{job}.out"

    def exit_code(self, job: str) -> Path:
        """Return where a job that has ended leaves its exit code."""
        return self.path / f"{job}.exit"

    def turn(self, job: str) -> Path:
        """Return what a job's window holds locked while it waits or runs."""
        return self.path / f"{job}.turn"

    def status(self, job: str) -> dict[str, Any]:
        """Return what a job's run says of itself (its ``status.json``); nothing where there is no such file yet."""
        return read_status(self.data / "logs" / job)

    def read_exit_code(self, job: str) -> int | None:
        """Return the exit code of a job; None where it has left none."""
        try:
            return int(self.exit_code(job).read_text())
        except (OSError, ValueError):
            return None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let no other spawner change the study meanwhile.

        Raises:
            UserError: where another one does, or the folder cannot be written.
        """
        from milozero.helpers.locks import Lock

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
        """Write a file of the study, whole or not at all.

        Raises:
            UserError: where it cannot be written.
        """
        from milozero.helpers.files import write_atomically

        def create(temporary: Path) -> None:
            with open(temporary, "w", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(text)

        try:
            write_atomically(path, create)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from None

    def archive_previous(self, job: str) -> None:
        """Put away how a job ended before, and what it printed: it starts anew."""
        self.exit_code(job).unlink(missing_ok=True)
        if self.output(job).exists():
            self.output(job).replace(self.path / f"{job}.out.before")

    def read_record(self) -> Record:
        """Return the record; an empty one where nothing was started yet.

        Raises:
            UserError: where it cannot be read.
        """
        path = self.path / RECORD
        if not path.exists():
            return Record()
        try:
            content = json.loads(path.read_text())
            record = Record(**content)
            for job in record.jobs.values():
                _ = job["settings"]["uuid"], LAUNCHERS[job["deployment"]], job["job_id"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove it to start the study anew") from None
        return record

    def write_record(self, record: Record) -> None:
        """Write the record.

        Raises:
            UserError: where it cannot be written.
        """
        self.write(self.path / RECORD, json.dumps(asdict(record), indent=1) + "\n")

    def require_exists(self) -> StudyFolder:
        """Return this study if it is there.

        Raises:
            UserError: otherwise, with the nearest name that is.
        """
        if not (self.path / RECORD).is_file():
            there = [path.parent.name for path in self.path.parent.glob(f"*/{RECORD}")]
            hint = did_you_mean(self.name, there) or (f"; there are {', '.join(sorted(there)[:20])}" if there else "")
            raise UserError(f"there is no study '{self.name}' in {self.path.parent}{hint}")
        return self
