"""What tmux and conda are told, without either."""

import fcntl
import json
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import libtmux
import pytest

from milozero.experiment.command_line import parse
from milozero.helpers.errors import UserError
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
from milozero.studies.launch_config import LaunchConfig
from milozero.studies.launchers import tmux
from milozero.studies.launchers.tmux import Tmux, check_conda, exists, literal, unsplit

CONDA = """#!/bin/sh
[ "$*" = "env list --json" ] || exit 3
echo '{"envs": ["/opt/conda", "/opt/conda/envs/py torch"]}'
"""


@pytest.fixture
def conda(tmp_path):
    program = tmp_path / "conda"
    program.write_text(CONDA)
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(("word", "told"), [("a;", "a\\;"), ("a;b", "a;b"), (";", "\\;"), ("a;;", "a;\\;"), ("", "")])
def test_word_does_not_end_tmuxs_command(word, told):
    assert unsplit(word) == told


def test_name_in_which_tmux_expands_nothing():
    assert literal("#(touch x);") == "##(touch x)\\;"


@pytest.mark.parametrize("name", ["conda", "py torch", "/opt/conda/envs/py torch"])
def test_conda_environment_is_found_by_name_and_by_path(conda, name):
    check_conda(conda, name)


@pytest.mark.parametrize("name", ["pytorch", "/opt/conda/envs/other", "envs"])
def test_conda_environment_that_is_not_there_is_refused(conda, name):
    with pytest.raises(UserError, match=f"--conda_env={name}: no such environment"):
        check_conda(conda, name)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho no json\n", "#!/bin/sh\necho '{}'\n"])
def test_conda_that_cannot_be_asked_is_said(conda, text):
    with open(conda, "w") as file:
        file.write(text)
    with pytest.raises(UserError, match="--conda_env=x: conda cannot be asked"):
        check_conda(conda, "x")


def test_process_that_is_gone_does_not_exist():
    assert exists(1)
    assert not exists(2**22 + 1)  # beyond Linux's largest


class Server:
    """A tmux with sessions of a study of the same name elsewhere, of the user's own, and of the study in `folder`."""

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
            session_name=names[session_id],
            windows=Windows(),
            new_window=self.new_window,
            kill=lambda: self.killed.append(session_id),
        )

    def new_window(self, name, **how):
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
    monkeypatch.setattr(tmux, "START_TIMEOUT_S", 0.2)
    monkeypatch.setattr(tmux, "KILL_TIMEOUT_S", 5.0)
    return server


def test_study_is_watched_in_its_own_session_not_in_anothers_of_its_name(server, folder):
    assert Tmux(folder, LaunchConfig()).attach_command() == "tmux attach -t =s-2"
    server.lines.pop()
    assert Tmux(folder, LaunchConfig())._session() is None


def test_job_has_started_once_its_window_waits_for_its_turn(server, folder):
    with folder.turn("j").open("w+") as held:
        held.write('{"state": "pending"}')
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        started = list(Tmux(folder, LaunchConfig()).start([Job("j", parse([]))]))
    assert started == [("j", socket.gethostname())]
    assert server.opened == ["j"]


def test_job_has_started_also_where_it_is_over_already(server, folder):
    folder.exit_code("j").write_text("0\n")
    assert list(Tmux(folder, LaunchConfig()).start([Job("j", parse([]))])) == [("j", socket.gethostname())]


@pytest.mark.usefixtures("server")
def test_job_whose_window_does_nothing_is_told(folder):
    with pytest.raises(UserError, match="job j does not start; see tmux attach -t =s-2"):
        list(Tmux(folder, LaunchConfig()).start([Job("j", parse([]))]))


def test_study_of_which_nothing_is_at_work_has_its_session_closed(server, folder):
    Tmux(folder, LaunchConfig()).stop({"j": "here"}, 0.1)
    assert server.killed == ["$3"]


def test_job_that_does_not_end_is_told_and_its_session_left(server, folder, monkeypatch):
    monkeypatch.setattr(tmux, "KILL_TIMEOUT_S", 0.1)
    with folder.turn("j").open("w+") as held:
        json.dump({"state": "running", "pid": 2**22 + 1, "host": socket.gethostname()}, held)
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="1 jobs do not end, such as j: tmux attach -t =s-2"):
            Tmux(folder, LaunchConfig()).stop({"j": "here", "over": "here"}, 0.1)
    assert server.killed == []


# A window's program that is there for a moment after its job is over.
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


def test_who_has_stopped_a_study_finds_none_of_its_windows_there(server, folder):
    with subprocess.Popen(
        [sys.executable, "-c", WINDOW, str(folder.turn("j"))], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        threading.Thread(target=process.wait).start()  # as tmux does
        Tmux(folder, LaunchConfig()).stop({"j": "here"}, 5.0)
        assert not exists(process.pid)
    assert server.killed == ["$3"]
