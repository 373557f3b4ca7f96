"""What became of a run, from what it, its lock and the launcher of its study leave on the disk and know."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from milozero.helpers.config.params import to_seconds
from milozero.helpers.errors import UserError
from milozero.helpers.locks import is_held
from milozero.studies.folder import METADATA_FILE, StudyFolder, StudyMetadata
from milozero.studies.job_status import JobStatus, read_job_status

SAID = ("finished", "stopped", "failed")


class LaunchedStudy:
    """A study that ``spawner.py`` keeps."""

    def __init__(self, folder: StudyFolder, metadata: StudyMetadata) -> None:
        self._folder, self.metadata = folder, metadata

    @cached_property
    def seen(self) -> dict[str, JobStatus]:
        """What its launcher knows of its jobs, by name; nothing where that cannot say."""
        try:
            return {job.name: job for job in read_job_status(self._folder, self.metadata)}
        except (UserError, OSError):  # Slurm does not answer here
            return {}


@dataclass(frozen=True)
class Launched:
    """A job of such a study."""

    name: str
    settings: Mapping[str, Any]
    study: LaunchedStudy

    @property
    def seen(self) -> JobStatus | None:
        """What its launcher knows; None where that cannot say."""
        return self.study.seen.get(self.name)


def launched_jobs(data: Path) -> dict[str, Launched]:
    """Return name → job of every study in a data folder, and ask no launcher yet."""
    jobs: dict[str, Launched] = {}
    for path in sorted((data / "spawn").glob(f"*/{METADATA_FILE}")):
        folder = StudyFolder(str(data), path.parent.name)
        with contextlib.suppress(UserError):  # metadata that cannot be read
            study = LaunchedStudy(folder, folder.read_metadata())
            jobs |= {name: Launched(name, job["settings"], study) for name, job in study.metadata.jobs.items()}
    return jobs


def read_status(logs: Path) -> dict[str, Any]:
    """Return what a run said of itself; nothing where that cannot be read."""
    try:
        return dict(json.loads((logs / "status.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def infer_state(data: Path, name: str, config: Mapping[str, Any], job: Launched | None) -> tuple[str, str]:
    """Return the state of a run, in ``spawner.py --status``'s words, and the reason for it.

    A run that was killed leaves ``running`` behind. It runs where it holds its folder. Otherwise it does not, on this
    machine; of another, whose locks may not reach here, what has been silent for longer than its watchdog allows does
    not.
    """
    logs = data / "logs" / name
    status, held = read_status(logs), is_held(data / "checkpoints" / name)
    said, here = status.get("state"), status.get("host") in (None, socket.gethostname())
    if held:
        return "running", ""
    if job and job.seen and here:
        return job.seen.state, job.seen.reason
    if said in SAID:
        return str(said), str(status.get("reason") or "")
    if said != "running":
        return "unknown", "its status.json is missing or cannot be read"
    if held is False and here:
        return "failed", "it was killed"
    last, patience = last_heartbeat(logs, status), _watchdog(config)
    if time.time() - last <= patience:
        return "running", ""
    return "failed", f"no sign of life since {time.strftime('%Y-%m-%d %H:%M', time.localtime(last))}"


def last_heartbeat(logs: Path, status: Mapping[str, Any]) -> float:
    """Return when a run last wrote, in seconds since the epoch."""
    times = [0.0]
    with contextlib.suppress(OSError):
        times.append((logs / "progress.csv").stat().st_mtime)
    with contextlib.suppress(ValueError, OverflowError):
        times.append(datetime.strptime(str(status.get("time")), "%Y-%m-%dT%H:%M:%S%z").timestamp())
    return max(times)


def _watchdog(config: Mapping[str, Any]) -> float:
    try:
        return to_seconds(str(config.get("watchdog", "01:00:00"))) or math.inf
    except UserError:
        return math.inf
