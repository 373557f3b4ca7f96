"""What starts the jobs of a study: one file each, one small protocol. Each is imported when it is first used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from milozero.studies.launch_config import LAUNCHERS, LaunchConfig

if TYPE_CHECKING:
    from milozero.studies.folder import StudyFolder
    from milozero.studies.jobs import Job


class Launcher(Protocol):
    """Starts jobs, knows which of them wait or run, and stops them.

    ``check`` → ``script`` of each job, which the caller writes → ``start`` → ``active`` → ``stop``.
    """

    def __init__(self, folder: StudyFolder, launch: LaunchConfig) -> None:
        """Take over where the files of the study lie and how it is launched."""

    initial_job_id: str  # of a job that is about to be started; empty where only starting it tells

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

    def active(self, job_ids: Mapping[str, str]) -> dict[str, str]:
        """Return name → ``pending`` or ``running`` of those jobs that are either.

        Raises:
            UserError: where that cannot be found out.
        """

    def stop(self, job_ids: Mapping[str, str], patience: float) -> None:
        """End jobs, with a checkpoint where they come to it within `patience` seconds; return when all have ended.

        Raises:
            UserError: where that cannot be done.
        """

    def manual_command(self, name: str) -> str:
        """Return the command that starts one job."""

    def attach_command(self) -> str:
        """Return the command that shows the jobs at work."""


def launcher_class(deployment: str) -> type[Launcher]:
    """Return the class of a launcher in `LAUNCHERS`."""
    module, _, name = LAUNCHERS[deployment].partition(":")
    cls: type[Launcher] = getattr(importlib.import_module(module), name)
    return cls
