"""The interface of launchers, which start the jobs of a study; each is imported at first use."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from milozero.studies.config import LAUNCHERS, LaunchConfig
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job


class Launcher(Protocol):
    """Starts, monitors and stops jobs.

    Usage::

        launcher.check(jobs)
        for job in jobs:
            folder.write(folder.job_file(job.name, ".sh"), launcher.script(job, arguments))
        job_ids = dict(launcher.start(jobs))
        launcher.active(job_ids)
        launcher.stop(job_ids, timeout=120)
    """

    def __init__(self, folder: StudyFolder, launch: LaunchConfig) -> None:
        """Create a launcher for the study in a folder."""

    initial_job_id: str  # of a job that is about to start; empty if `start` assigns the id

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise a UserError if something that the jobs need to start is missing."""

    def script(self, job: Job, arguments: Sequence[str]) -> str:
        """Return the text of a job's script, for `arguments` of ``main.py``."""

    def start(self, jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
        """Start jobs whose scripts are written; yield (name, job id) of each as soon as it has started.

        Raises:
            UserError: if a job cannot be started.
        """

    def active(self, job_ids: Mapping[str, str]) -> dict[str, str]:
        """Return name → ``pending`` or ``running`` of the jobs that are either.

        Raises:
            UserError: if the state of the jobs cannot be determined.
        """

    def stop(self, job_ids: Mapping[str, str], timeout: float) -> None:
        """Ask jobs to save and stop, kill those that have not stopped after `timeout` seconds, and wait for them.

        Raises:
            UserError: if jobs cannot be stopped.
        """

    def manual_command(self, name: str) -> str:
        """Return the command that starts one job."""

    def attach_command(self) -> str:
        """Return the command that shows the active jobs."""


def launcher_class(deployment: str) -> type[Launcher]:
    """Return the class of a launcher in `LAUNCHERS`."""
    cls: type[Launcher] = pkgutil.resolve_name(LAUNCHERS[deployment])
    return cls
