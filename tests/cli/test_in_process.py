"""main.main and spawner.main restore the state of the process, so that it can call them repeatedly."""

import itertools
import logging
import signal
import socket
import threading
import time
import warnings

import pytest

from milozero import main, spawner
from milozero.helpers.comm import Comm
from milozero.helpers.locks import is_held
from tests.support import user_envs
from tests.support.one_run import QUICK, iterations

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
TRAIN = ("--task=train", *QUICK)


def state():
    """Return the state of the process that a run changes temporarily."""
    root = logging.getLogger()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    return handlers, wakeup_fd, root.level, list(root.handlers), logging.raiseExceptions, warnings.showwarning


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, (*TRAIN, "--num_iters=1", "--uuid=new")),
        (2, (*TRAIN, "--num_iters=1", "--uuid=run")),  # already exists
        (2, (*TRAIN, "--resume", "--uuid=run", "--p_lr=0.5")),  # other settings
        (0, (*TRAIN, "--resume", "--uuid=run", "--num_iters=7", "--save_frequency=2")),
        (2, ("--task=train", "--nonsense")),
        (0, ("--task=eval", "--model_path=data/checkpoints/run", "--num_trajs=1")),
        (0, ("--task=list_envs", "--only=CartPole")),
    ],
)
@pytest.mark.usefixtures("run")
def test_handlers_lock_and_log_are_restored(milozero, tmp_path, code, arguments):
    before, threads = state(), set(threading.enumerate())
    result = milozero(*arguments)
    assert result.returncode == code, result.stderr
    assert state() == before
    assert set(threading.enumerate()) <= threads
    assert {is_held(folder) for folder in (tmp_path / "data/checkpoints").iterdir()} == {False}


def test_run_that_raises_restores_handlers_lock_and_log(milozero, tmp_path, monkeypatch):
    before, steps, step = state(), itertools.count(), user_envs.Bounded.step

    def fail(env, action):
        if next(steps) == 40:  # after the check before training
            raise RuntimeError("the simulator broke")
        return step(env, action)

    monkeypatch.setattr("tests.support.user_envs.Bounded.step", fail)
    flags = [flag for flag in TRAIN if "env_id" not in flag]
    result = milozero(*flags, "--env_id=tests.support.user_envs:Bounded-v0", "--uuid=broken")
    assert result.returncode == 1
    assert "the simulator broke" in result.stderr
    assert state() == before
    assert is_held(tmp_path / "data/checkpoints/broken") is False


def test_wakeup_descriptor_of_the_caller_is_restored(milozero):
    """Otherwise asyncio, which sets one, would no longer receive signals."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno())
        try:
            assert milozero(*TRAIN, "--uuid=run", "--num_iters=1").returncode == 0
        finally:
            assert signal.set_wakeup_fd(before) == theirs.fileno()


def test_each_run_has_its_own_log(milozero, tmp_path):
    for name in ("run-a", "run-b"):
        assert milozero(*TRAIN, f"--uuid={name}", "--num_iters=1").returncode == 0
    for name, other in (("run-a", "run-b"), ("run-b", "run-a")):
        log = (tmp_path / f"data/logs/{name}/log.txt").read_text()
        assert f"experiment {name}: " in log
        assert other not in log


def test_run_can_be_resumed_by_the_process_that_started_it(milozero, tmp_path):
    assert milozero(*TRAIN, "--uuid=run", "--num_iters=2").returncode == 0
    assert milozero(*TRAIN, "--uuid=run", "--num_iters=3", "--resume").returncode == 0
    assert iterations(tmp_path) == [1, 2, 3]


def test_time_limit_counts_from_the_call(milozero, tmp_path, monkeypatch):
    monkeypatch.setattr(main, "START_TIME", time.monotonic() - 1e6)  # when the process started
    result = milozero(*TRAIN, "--uuid=run", "--num_iters=2", "--execution_time=01:00:00")
    assert "finished: num_iters=2 reached" in result.stdout
    assert "\nstops after 60 min (--execution_time=01:00:00)\n" in result.stdout


def test_number_without_a_unit_is_a_time_limit_in_minutes(milozero):
    result = milozero(*TRAIN, "--num_iters=1", "--execution_time=150")
    assert "\nstops after 2 h 30 min (--execution_time=150)\n" in result.stdout


def test_more_workers_than_cores_are_mentioned(milozero, monkeypatch):
    monkeypatch.setattr(Comm, "local_size", 4)
    monkeypatch.setattr(Comm, "local_cores", 2)
    result = milozero(*TRAIN, "--num_iters=1")
    assert "warning: 4 workers share 2 cores: more workers than cores do not train faster" in result.stderr


def test_program_without_flags_shows_how_to_use_it_and_trains_nothing(capsys):
    assert main.run([], time.monotonic(), is_program=True) == 2
    output = capsys.readouterr().out
    assert "python main.py --task=train --env_id=Hopper" in output
    assert "docs/parameters.md lists all flags" in output


@pytest.mark.parametrize("flags", [("--status=nothing",), ("--help",)])
def test_spawner_restores_its_handlers(studies, flags, capsys):
    before = state()
    if flags == ("--help",):
        with pytest.raises(SystemExit):
            spawner.main(list(flags))
    else:
        studies.run(*flags, fails=True)
    assert state() == before
