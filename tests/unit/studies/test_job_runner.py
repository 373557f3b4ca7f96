"""Jobs start in the order of the queue, and a killed window does not block it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from milozero.studies.launchers import job_runner
from tests.support import ROOT

CORES = len(os.sched_getaffinity(0))


SIGNAL_DEBOUNCE_S, TERM_TIMEOUT_S = 0.3, 1.0  # seconds
# `python -m milozero.studies.launchers.job_runner FOLDER JOB NUM_WORKERS` with shorter timeouts
WINDOW = f"""
import pathlib, sys
from milozero.helpers.supervisor import Supervisor
from milozero.studies.launchers import job_runner

supervisor = Supervisor(signal_debounce={SIGNAL_DEBOUNCE_S}, term_timeout={TERM_TIMEOUT_S})
code = job_runner.JobRunner(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), supervisor).run()
job_runner.close_terminal()
sys.exit(code)
"""


class Windows:
    def __init__(self, folder):
        self.folder = folder
        self.env = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
        self.processes = {}

    def open(self, job, workers, script):
        """Start a job's runner without tmux, and wait until it is in the queue."""
        (self.folder / f"{job}.sh").write_text(script.replace("FOLDER", str(self.folder)))
        command = [sys.executable, "-c", WINDOW, str(self.folder), job, str(workers)]
        self.processes[job] = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, text=True)
        self.wait(lambda: (self.folder / f"{job}.window").exists() and (self.folder / f"{job}.window").read_text())
        time.sleep(0.1)
        return self.processes[job]

    def wait(self, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def started(self):
        path = self.folder / "started"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def windows(tmp_path):
    windows = Windows(tmp_path)
    yield windows
    for process in windows.processes.values():
        process.kill()
        process.wait()


def waits_for(file, name):
    return f"echo {name} >>FOLDER/started; while [ ! -e FOLDER/{file} ]; do sleep 0.02; done"


def test_jobs_start_in_queue_order_even_if_a_later_one_would_fit(windows):
    windows.open("first", CORES, waits_for("go", "first"))
    windows.wait(lambda: windows.started() == ["first"])
    windows.open("large", CORES, "echo large >>FOLDER/started; sleep 0.3")
    windows.open("small", 1, "echo small >>FOLDER/started")
    time.sleep(0.6)
    assert windows.started() == ["first"]
    (windows.folder / "go").touch()
    windows.wait(lambda: windows.started() == ["first", "large", "small"])
    assert [process.wait(10) for process in windows.processes.values()] == [0, 0, 0]


@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_jobs_that_fit_run_at_the_same_time_on_different_cores(windows):
    for name in ("a", "b"):
        script = f"grep Cpus_allowed_list /proc/self/status >FOLDER/{name}.cores; {waits_for('go', name)}"
        windows.open(name, 1, script)
    windows.wait(lambda: sorted(windows.started()) == ["a", "b"])
    cores = {(windows.folder / f"{name}.cores").read_text().split()[1] for name in ("a", "b")}
    assert len(cores) == 2
    (windows.folder / "go").touch()


def test_job_with_more_workers_than_cores_gets_all_cores(windows):
    assert windows.open("j", 10 * CORES, "exit 3").wait(10) == 3
    assert (windows.folder / "j.exit").read_text() == "3\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_waiting_window_does_not_block_the_queue(windows, number):
    windows.open("first", CORES, waits_for("go", "first"))
    windows.wait(lambda: windows.started() == ["first"])
    second = windows.open("second", 1, "echo second >>FOLDER/started")
    windows.open("third", 1, "echo third >>FOLDER/started")
    second.send_signal(number)
    second.wait(10)
    (windows.folder / "go").touch()
    windows.wait(lambda: windows.started() == ["first", "third"])
    assert (windows.folder / "second.exit").exists() == (number == signal.SIGTERM)


def test_waiting_takes_no_cpu_time(windows):
    windows.open("first", CORES, waits_for("go", "first"))
    windows.wait(lambda: windows.started() == ["first"])
    second = windows.open("second", 1, "true")
    before = cpu_seconds(second)
    time.sleep(1)
    assert cpu_seconds(second) - before < 0.15
    (windows.folder / "go").touch()
    assert second.wait(10) == 0


def cpu_seconds(process):
    """Return the CPU time of a process."""
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_second_request_does_not_interrupt_the_cleanup(windows):
    windows.open("first", CORES, waits_for("go", "first"))
    second = windows.open("second", 1, "echo second >>FOLDER/started")
    for _ in range(3):
        second.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert second.wait(10) == 0
    assert second.stdout.read().splitlines()[-1] == "stopped before it began"
    assert (windows.folder / "second.exit").read_text() == "0\n"


def test_system_error_is_written_as_the_jobs_result(windows):
    (windows.folder / f"milozero-{os.getuid()}").mkdir(mode=0o700)
    (windows.folder / f"milozero-{os.getuid()}" / "queue").mkdir()
    process = windows.open("j", 1, "true")
    assert process.wait(10) == 1
    assert "error: " in (windows.folder / "j.out").read_text()
    assert (windows.folder / "j.exit").read_text() == "1\n"


def test_second_window_of_a_job_exits(windows):
    windows.open("j", 1, waits_for("go", "j"))
    again = subprocess.run(windows.processes["j"].args, env=windows.env, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (2, "j already has a window\n")
    (windows.folder / "go").touch()


def test_stop_request_sends_usr1_and_a_second_one_kills_all_processes(windows):
    script = """
    trap 'echo asked >>FOLDER/started' USR1
    setsid bash -c 'trap "" TERM; while true; do sleep 0.1; done' FOLDER-child &
    trap '' TERM
    echo begun >>FOLDER/started
    while true; do sleep 0.05; done
    """
    process = windows.open("j", 1, script)
    windows.wait(lambda: windows.started() == ["begun"])
    process.terminate()
    process.terminate()  # still the same request
    windows.wait(lambda: windows.started() == ["begun", "asked"])
    time.sleep(SIGNAL_DEBOUNCE_S)
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGKILL
    assert f"{windows.folder}-child" not in commands()


def commands():
    words = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words += path.read_text(errors="replace").split("\0")
        except OSError:
            continue
    return words


def test_stderr_of_the_job_is_kept(windows):
    windows.open("j", 1, "echo loud >&2; kill -9 $$").wait(10)
    assert (windows.folder / "j.out").read_text() == "loud\n"
    assert (windows.folder / "j.exit").read_text() == "137\n"


def of_another_user(path):
    path.mkdir()
    os.chown(path, 12345, 12345)


UNSAFE = {
    "another user's": of_another_user,
    "all may write": lambda path: (path.mkdir(), path.chmod(0o777)),
    "group may write": lambda path: (path.mkdir(), path.chmod(0o770)),
    "a link": lambda path: ((path.parent / "elsewhere").mkdir(), path.symlink_to("elsewhere")),
    "a dangling link": lambda path: path.symlink_to("elsewhere"),
    "a file": lambda path: path.write_text("mine"),
}


@pytest.mark.parametrize("make", UNSAFE.values(), ids=UNSAFE)
def test_name_that_others_took_neither_blocks_the_locks_nor_holds_them(tmp_path, make):
    if make is of_another_user and os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    taken = tmp_path / f"milozero-{os.getuid()}"
    make(taken)
    folder = job_runner.find_lock_folder(tmp_path)
    assert folder.name.startswith(f"{taken.name}-")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert job_runner.find_lock_folder(tmp_path) == folder  # all windows use the same one
    (tmp_path / f"{taken.name}-0").mkdir(mode=0o777)
    (tmp_path / f"{taken.name}-0").chmod(0o777)
    assert job_runner.find_lock_folder(tmp_path) == folder


def test_folder_that_another_user_removes_meanwhile_does_not_block_the_locks(tmp_path, monkeypatch):
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [*glob(path, pattern), path / "milozero-removed"])
    assert job_runner.find_lock_folder(tmp_path).name == f"milozero-{os.getuid()}"


def test_private_lock_folder_has_the_plain_name(tmp_path):
    folder = tmp_path / f"milozero-{os.getuid()}"
    assert job_runner.find_lock_folder(tmp_path) == job_runner.find_lock_folder(tmp_path) == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_job_runs_if_another_user_has_taken_the_name_of_the_lock_folder(windows):
    UNSAFE["all may write"](windows.folder / f"milozero-{os.getuid()}")
    assert windows.open("j", 1, "true").wait(10) == 0


@pytest.mark.parametrize("target", ["precious", "missing"])
def test_locks_do_not_write_through_links(tmp_path, target):
    (tmp_path / "precious").write_text("data")
    for name in ("queue", "core-0", "j.window"):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(OSError, match="symbolic"), job_runner.core_queue(tmp_path):
        pass
    with pytest.raises(OSError, match="symbolic"):
        job_runner.try_to_lock(tmp_path / "core-0")
    with pytest.raises(OSError, match="symbolic"):
        job_runner.JobRunner(tmp_path, "j", 1)
    assert (tmp_path / "precious").read_text() == "data"
    assert not (tmp_path / "missing").exists()


def test_lock_keeps_the_content_of_its_file(tmp_path):
    (tmp_path / "precious").write_text("data")
    (tmp_path / "core-0").hardlink_to(tmp_path / "precious")
    job_runner.try_to_lock(tmp_path / "core-0").close()
    assert (tmp_path / "precious").read_text() == "data"


@pytest.mark.parametrize(("clear", "kept"), [([], {".sh", ".window"}), (["--clear"], {".window"})])
def test_key_is_removed_when_the_job_ends(tmp_path, monkeypatch, clear, kept):
    for suffix in ("sh", "key"):
        (tmp_path / f"j.{suffix}").touch()
    monkeypatch.setattr(job_runner.JobRunner, "_run_script", lambda self, cores: 1)
    monkeypatch.setattr(job_runner, "close_terminal", lambda: None)
    assert job_runner.main([str(tmp_path), "j", "1", *clear]) == 1
    assert {path.suffix for path in tmp_path.iterdir()} == kept | {".exit"}


def test_second_window_of_a_job_leaves_its_files(tmp_path, monkeypatch):
    (tmp_path / "j.key").touch()
    monkeypatch.setattr(job_runner, "close_terminal", lambda: None)
    first = job_runner.JobRunner(tmp_path, "j", 1)
    assert first._lock_job()
    assert job_runner.main([str(tmp_path), "j", "1", "--clear"]) == 2
    assert (tmp_path / "j.key").exists()


def test_reader_never_sees_a_partial_window_state(tmp_path):
    window = job_runner.JobRunner(tmp_path, "j", 1)
    assert window._lock_job()
    window._write_state("pending")
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for state in ("running", "over", "pending"):
                window._write_state(state)

    writer = threading.Thread(target=change)
    writer.start()
    try:
        for _ in range(3000):
            assert json.loads((tmp_path / "j.window").read_text())["pid"] == os.getpid()
    finally:
        stop.set()
        writer.join()
