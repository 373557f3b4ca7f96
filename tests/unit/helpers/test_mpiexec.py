"""A program that starts its own workers, with a fake mpiexec."""

import os
import signal
import subprocess
import sys
import time

import pytest

from milozero.helpers import mpiexec
from milozero.helpers.errors import UserError
from tests.support import ROOT

PARENT = "import sys; from milozero.helpers.mpiexec import run_workers; sys.exit(run_workers(2, sys.argv[1:]))"
# Prints its arguments, and ends like workers that save and stop; the sleeps are short, because bash waits for them.
SAVES = """#!/bin/bash
trap 'echo saved; exit 0' USR1
echo "workers: $*"
while true; do sleep 0.02; done
"""
HANGS = """#!/bin/bash
trap 'echo asked' USR1
trap '' TERM
echo "workers: $*"
while true; do sleep 0.02; done
"""
SHOWS = """#!/bin/sh
echo "workers: $*"
echo $OMPI_ALLOW_RUN_AS_ROOT $PRTE_MCA_rmaps_default_mapping_policy
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a program with a script as its mpiexec, and waits for the workers."""
    processes = []

    def run(script, *prefix):
        program = tmp_path / "bin/mpiexec"
        program.parent.mkdir()
        program.write_text(script)
        program.chmod(0o755)
        python = program.with_name("python")  # run_workers prefers the mpiexec beside it
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        code = f"import sys; sys.executable = {str(python)!r}; {PARENT}"
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", code, "train.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        assert process.stdout.readline() == "workers: -n 2 train.py\n"
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]
)
def test_signal_asks_the_workers_to_save_and_stop(start, number):
    process = start(SAVES)
    process.send_signal(number)
    assert process.communicate(timeout=10) == ("saved\n", "")
    assert process.returncode == 0


def test_workers_save_if_their_parent_is_killed(start):
    process = start(SAVES)
    process.kill()
    assert process.stdout.read() == "saved\n"


def test_ignored_hangup_stays_ignored(start):
    process = start(SAVES, "sh", "-c", 'trap "" HUP; exec "$@"', "sh")  # as nohup does
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert process.communicate(timeout=10)[0] == "saved\n"


def test_second_request_kills_workers_that_hang(start):
    process = start(HANGS)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "asked\n"
    time.sleep(2.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 128 + signal.SIGKILL


def test_root_and_more_workers_than_cores_are_allowed(start, monkeypatch):
    for name in mpiexec.ALLOW_ROOT | mpiexec.OVERSUBSCRIBE:
        monkeypatch.delenv(name, raising=False)
    process = start(SHOWS)
    assert process.stdout.read() == "1 :oversubscribe\n"  # communicate() loses what readline() has buffered
    assert process.wait(10) == 0


def test_missing_mpiexec_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match="--num_workers=2: mpiexec is not installed"):
        mpiexec.run_workers(2, ["train.py"])
