"""Infer the state of a run from its status file, its lock and the launcher of its study."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from milozero.experiment.status import read_status
from milozero.helpers.config.values import to_seconds
from milozero.helpers.errors import UserError
from milozero.helpers.locks import is_held
from milozero.studies.folder import METADATA_FILE, StudyFolder
from milozero.studies.job_status import JobStatus, read_job_status

FINAL_STATES = ("finished", "stopped", "failed")


class LaunchedStudy:
    """A study that ``spawner.py`` has launched."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder, self.metadata = folder, folder.read_metadata()

    @cached_property
    def jobs(self) -> dict[str, JobStatus]:
        """Name → status of its jobs; empty if the launcher does not respond."""
        try:
            return {job.name: job for job in read_job_status(self._folder, self.metadata)}
        except Exception:  # e.g. Slurm is not available on this machine, or study.json was edited
            return {}


def find_launched_jobs(data: Path) -> dict[str, LaunchedStudy]:
    """Return name of a job → its study, for all studies in a data folder, without querying their launchers."""
    jobs: dict[str, LaunchedStudy] = {}
    for path in sorted((data / "spawn").glob(f"*/{METADATA_FILE}")):
        with contextlib.suppress(UserError):  # the metadata cannot be read
            study = LaunchedStudy(StudyFolder(str(data), path.parent.name))
            jobs |= dict.fromkeys(study.metadata.jobs, study)
    return jobs


def infer_state(data: Path, name: str, config: Mapping[str, Any], launched: LaunchedStudy | None) -> tuple[str, str]:
    """Return the state of a run, as ``spawner.py --status`` shows it, and the reason for it.

    Locks of another machine may be invisible; a run there counts as running until its watchdog would end it.
    """
    logs = data / "logs" / name
    status, locked = read_status(logs), is_held(data / "checkpoints" / name)
    state, local = status.get("state"), status.get("host") in (None, socket.gethostname())
    if locked:
        return "running", ""
    if launched and local and name in launched.jobs:
        return launched.jobs[name].state, launched.jobs[name].reason
    if state in FINAL_STATES:
        return str(state), str(status.get("reason") or "")
    if state == "killed":
        return "failed", "it was killed"
    if state != "running":
        return "unknown", "status.json is missing or unreadable"
    last = last_heartbeat(logs, status)
    if time.time() - last <= _heartbeat_timeout_s(config):
        return "running", ""
    return "failed", f"no heartbeat since {time.strftime('%Y-%m-%d %H:%M', time.localtime(last))}"


def last_heartbeat(logs: Path, status: Mapping[str, Any]) -> float:
    """Return when a run last wrote its metrics or status, in seconds since the epoch."""
    times = [0.0]
    with contextlib.suppress(OSError):
        times.append((logs / "progress.csv").stat().st_mtime)
    with contextlib.suppress(ValueError, OverflowError):
        times.append(datetime.strptime(str(status.get("time")), "%Y-%m-%dT%H:%M:%S%z").timestamp())
    return max(times)


def _heartbeat_timeout_s(config: Mapping[str, Any]) -> float:
    """Return the watchdog's limit of a run; infinite if the watchdog is off."""
    try:
        return to_seconds(str(config.get("watchdog", "01:00:00"))) or math.inf
    except UserError:
        return math.inf
