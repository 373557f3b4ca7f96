"""The tmux launcher without tmux and conda."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import libtmux
import pytest

from milozero.experiment.command_line import parse
from milozero.helpers.errors import UserError
from milozero.studies.config import LaunchConfig
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
from milozero.studies.launchers import tmux
from milozero.studies.launchers.tmux import Tmux, check_conda, escape, escape_semicolon

CONDA = """#!/bin/sh
[ "$*" = "env list --json" ] || exit 3
echo 'Welcome to the cluster'
echo '{"envs": ["/opt/conda", "/opt/conda/envs/py torch"]}'
echo 'Maintenance on Monday'
"""


@pytest.fixture
def conda(tmp_path):
    program = tmp_path / "conda"
    program.write_text(CONDA)
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("word", "escaped"), [("a;", "a\\;"), ("a;b", "a;b"), (";", "\\;"), ("a;;", "a;\\;"), ("", "")]
)
def test_semicolon_does_not_end_a_tmux_command(word, escaped):
    assert escape_semicolon(word) == escaped


def test_tmux_expands_nothing_in_a_name():
    assert escape("#(touch x);") == "##(touch x)\\;"


@pytest.mark.parametrize("name", ["conda", "py torch", "/opt/conda/envs/py torch"])
def test_conda_environment_is_found_by_name_and_by_path(conda, name):
    check_conda(conda, name)


@pytest.mark.parametrize("name", ["pytorch", "/opt/conda/envs/other", "envs"])
def test_missing_conda_environment_is_an_error(conda, name):
    with pytest.raises(UserError, match=f"--conda_env={name}: no such environment"):
        check_conda(conda, name)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho no json\n", "#!/bin/sh\necho '{}'\n"])
def test_failing_conda_is_an_error(conda, text):
    with open(conda, "w") as file:
        file.write(text)
    with pytest.raises(UserError, match="--conda_env=x: `conda env list` failed"):
        check_conda(conda, "x")


class Server:
    """A tmux server with three sessions: a study of the same name in another folder, the user's, and the study's."""

    socket_path = None

    def __init__(self, folder):
        self.lines = ["$1 /elsewhere/spawn/s", "$2 ", f"$3 {folder.path}"]
        self.opened, self.killed = [], []
        self.sessions = SimpleNamespace(get=self.session)

    def cmd(self, *command):
        assert command == ("list-sessions", "-F", "#{session_id} #{@milozero}")
        return SimpleNamespace(stdout=self.lines)

    def session(self, session_id):
        names = {"$1": "s", "$2": "mine", "$3": "s-2"}
        return SimpleNamespace(
            server=SimpleNamespace(socket_path=None),
            session_name=names[session_id],
            windows=Windows(),
            new_window=self.new_window,
            kill=lambda: self.killed.append(session_id),
        )

    def new_window(self, name, **options):
        self.opened.append(name)
        return SimpleNamespace(set_option=lambda *option: None, cmd=lambda *words: SimpleNamespace(stderr=[]))


class Windows(list):
    def filter(self, window_name):
        return []


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(str(tmp_path), "s")
    folder.path.mkdir(parents=True)
    return folder


@pytest.fixture
def server(folder, monkeypatch):
    server = Server(folder)
    monkeypatch.setattr(libtmux, "Server", lambda: server)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setattr(tmux, "START_TIMEOUT_S", 0.2)
    monkeypatch.setattr(tmux, "KILL_TIMEOUT_S", 5.0)
    return server


@pytest.mark.parametrize(
    ("variables", "changed"),
    [
        ({"LC_ALL": "C"}, True),
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "", "LC_CTYPE": "de_DE.ISO-8859-1"}, True),
        ({}, True),
        ({"LANG": "de_DE.utf8"}, False),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, False),
    ],
)
def test_tmux_gets_a_utf8_locale(monkeypatch, variables, changed):
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "TMUX"):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tmux.find_server()
    assert os.environ.get("LC_ALL") == ("C.UTF-8" if changed else variables.get("LC_ALL"))


def test_server_is_the_one_that_this_process_runs_in(monkeypatch, tmp_path):
    default, other = tmp_path / f"tmux-{os.getuid()}/default", tmp_path / "a, b"
    default.parent.mkdir()
    default.touch()
    other.touch()
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    for value, path in (("", None), (f"{default},1,0", None), (f"{other},1,0", str(other)), ("/gone/x,1,0", None)):
        monkeypatch.setenv("TMUX", value)
        assert tmux.find_server().socket_path == path


def test_session_is_found_by_the_path_of_its_study(server, folder):
    assert Tmux(folder, LaunchConfig()).attach_command() == "tmux attach -t =s-2"
    server.lines.pop()
    assert Tmux(folder, LaunchConfig())._find_session() is None


def test_job_has_started_once_its_window_is_in_the_queue(server, folder):
    with folder.job_file("j", ".window").open("w+") as file:
        file.write('{"state": "pending"}')
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        started = list(Tmux(folder, LaunchConfig()).start([Job("j", parse([]))]))
    assert started == [("j", socket.gethostname())]
    assert server.opened == ["j"]


def test_job_has_started_if_it_has_already_ended(server, folder):
    folder.job_file("j", ".exit").write_text("0\n")
    assert list(Tmux(folder, LaunchConfig()).start([Job("j", parse([]))])) == [("j", socket.gethostname())]


@pytest.mark.usefixtures("server")
def test_job_may_start_a_moment_later(folder, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: folder.job_file("j", ".exit").write_text("0\n"))
    assert list(Tmux(folder, LaunchConfig()).start([Job("j", parse([]))])) == [("j", socket.gethostname())]


@pytest.mark.usefixtures("server")
def test_window_that_does_not_respond_is_an_error(folder):
    with pytest.raises(UserError, match="job j did not start; see tmux attach -t =s-2"):
        list(Tmux(folder, LaunchConfig()).start([Job("j", parse([]))]))


def test_stop_closes_the_session_of_a_study_without_active_jobs(server, folder):
    Tmux(folder, LaunchConfig()).stop({"j": "here"}, 0.1)
    assert server.killed == ["$3"]


def test_job_that_does_not_stop_is_an_error_and_keeps_the_session(server, folder, monkeypatch):
    monkeypatch.setattr(tmux, "KILL_TIMEOUT_S", 0.1)
    with folder.job_file("j", ".window").open("w+") as file:
        json.dump({"state": "running", "pid": 2**22 + 1, "host": socket.gethostname()}, file)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"1 job did not stop, e\.g\. j; see tmux attach -t =s-2"):
            Tmux(folder, LaunchConfig()).stop({"j": "here", "done": "here"}, 0.1)
    assert server.killed == []


# A job runner that exits a moment after its job has ended.
WINDOW = """
import fcntl, json, os, signal, socket, sys, time

with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    json.dump({"state": "running", "pid": os.getpid(), "host": socket.gethostname()}, file)
    file.flush()
    print("ready", flush=True)
    signal.sigwait([signal.SIGTERM])
time.sleep(0.5)
"""


def test_stop_waits_until_the_job_runners_have_exited(server, folder):
    with subprocess.Popen(
        [sys.executable, "-c", WINDOW, str(folder.job_file("j", ".window"))], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        threading.Thread(target=process.wait).start()  # as tmux does
        Tmux(folder, LaunchConfig()).stop({"j": "here"}, 5.0)
        assert not os.path.exists(f"/proc/{process.pid}")
    assert server.killed == ["$3"]
