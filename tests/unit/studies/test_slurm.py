"""Calls of Slurm's programs, with fake ones."""

import os

import pytest

from milozero.experiment.command_line import parse
from milozero.helpers.errors import UserError
from milozero.studies.config import LaunchConfig
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
from milozero.studies.launchers import slurm as slurm_launcher
from milozero.studies.launchers.slurm import Slurm, _cancel


@pytest.fixture
def sbatch_log(tmp_path, monkeypatch):
    """Install an sbatch that accepts every job; returns the file to which it logs its arguments and input."""
    program = tmp_path / "sbatch"
    program.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/log"\ncat >>"{tmp_path}/log"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "log"


def check(folder, image):
    launch = LaunchConfig(deployment="slurm", docker=True, docker_image=image)
    Slurm(StudyFolder(str(folder / "data"), "s"), launch).check([Job("j", parse([]))])


def test_image_may_be_an_address(sbatch_log, tmp_path):
    check(tmp_path, "docker://user/milozero:mujoco")
    assert sbatch_log.read_text().startswith("--test-only\n#!/usr/bin/env bash\n#SBATCH --job-name=s\n")


def test_image_may_be_a_file(sbatch_log, tmp_path):
    (tmp_path / "the image.sif").touch()
    check(tmp_path, f"{tmp_path}/the image.sif")
    assert sbatch_log.exists()


def test_missing_image_is_an_error_before_sbatch_is_called(sbatch_log, tmp_path):
    with pytest.raises(UserError, match=r"--docker_image=user/milozero: no such file; .* docker://NAME"):
        check(tmp_path, "user/milozero")
    assert not sbatch_log.exists()


def test_backslash_in_a_path_is_an_error(sbatch_log, tmp_path):
    with pytest.raises(UserError, match="Slurm does not support backslashes in paths"):
        check(tmp_path / "a\\b", "docker://user/milozero")
    assert not sbatch_log.exists()


def test_errors_of_scancel_are_ignored(tmp_path, monkeypatch, capfd):
    program = tmp_path / "scancel"
    error = 'echo "scancel: error: Invalid job id" | tee /dev/stderr'
    program.write_text(f'#!/bin/sh\necho "$@" >> "$0.log"\n{error}\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    _cancel(["7", "8_1"], "--signal=USR1")
    assert (tmp_path / "scancel.log").read_text() == "--signal=USR1 7 8_1\n"
    assert capfd.readouterr() == ("", "")


BANNER = "****\n* Welcome to Baobab; quota: 12345 files\n****"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Install Slurm programs that print what the test says between two banners, and log their arguments."""

    def install(program, *lines):
        path = tmp_path / program
        text = "\n".join([BANNER, *lines, BANNER, ""]).encode() + b"f\xfcr Fragen: hpc\n"
        (tmp_path / f"{program}.txt").write_bytes(text)
        path.write_text('#!/bin/sh\necho "$@" >>"$0.log"\ncat "$0.txt"\n')
        path.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return install


def make_slurm(tmp_path, *names):
    """Return the launcher of a study whose jobs have their scripts."""
    folder = StudyFolder(str(tmp_path / "data"), "s")
    folder.path.mkdir(parents=True)
    for name in names:
        folder.job_file(name, ".sh").write_text("#!/bin/sh\n")
    return Slurm(folder, LaunchConfig(deployment="slurm"))


@pytest.mark.parametrize(
    ("line", "job_id"),
    [
        ("4711", "4711"),
        ("4711;baobab", "4711;baobab"),
        ("Submitted batch job 4711", "4711"),
        ("Submitted batch job 4711 on cluster baobab", "4711;baobab"),
        ("sbatch: Submitted batch job 4711\r", "4711"),
    ],
)
def test_job_id_is_found_between_banners(slurm, tmp_path, line, job_id):
    slurm("sbatch", line)
    launcher = make_slurm(tmp_path, "a", "b")
    assert list(launcher.start([Job("a", parse([]))])) == [("a", job_id)]
    number, *cluster = job_id.split(";")
    ids = [";".join([f"{number}_{index}", *cluster]) for index in (0, 1)]
    assert list(launcher.start([Job("a", parse([])), Job("b", parse([]))])) == list(zip("ab", ids, strict=True))


def test_missing_job_id_is_an_error(slurm, tmp_path):
    slurm("sbatch")
    with pytest.raises(UserError, match=r"sbatch printed no job id: \*\*\*\* \* Welcome to .*; check squeue --me"):
        list(make_slurm(tmp_path, "a").start([Job("a", parse([]))]))


def test_states_are_found_between_banners(slurm, tmp_path):
    slurm(
        "squeue", "milozero-job|1|RUNNING", "Welcome!milozero-job|2_0|PENDING", "3|RUNNING", "milozero-job|4|FAILED"
    )
    active = make_slurm(tmp_path).active({"a": "1", "b": "2_0", "c": "3", "d": "4"})
    assert active == {"a": "running", "b": "pending"}


def test_jobs_on_other_clusters_are_followed_and_canceled_there(slurm, tmp_path):
    slurm("squeue", "CLUSTER: yggdrasil", "milozero-job|7|RUNNING")
    slurm("scancel")
    assert make_slurm(tmp_path).active({"a": "7;yggdrasil", "b": "8"}) == {"a": "running"}
    calls = (tmp_path / "squeue.log").read_text().splitlines()
    assert [call.startswith("--clusters=yggdrasil ") for call in calls] == [True, False]
    _cancel(["7;yggdrasil", "8"], "--signal=USR1")
    expected = "--clusters=yggdrasil --signal=USR1 7\n--signal=USR1 8\n"
    assert (tmp_path / "scancel.log").read_text() == expected


def test_error_of_slurm_is_shown_without_the_banner(tmp_path, monkeypatch):
    program = tmp_path / "sbatch"
    program.write_text(f"#!/bin/sh\necho '{BANNER}' >&2\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UserError, match=r"^sbatch: error: invalid partition$"):
        list(make_slurm(tmp_path, "a").start([Job("a", parse([]))]))


@pytest.mark.parametrize(("polls", "timeout", "sleeps"), [(3, 60.0, 3), (99, 1.0, 2), (0, 60.0, 0)])
def test_stopping_waits_for_the_jobs_but_not_forever(monkeypatch, tmp_path, polls, timeout, sleeps):
    clock, slept = [100.0], []
    monkeypatch.setattr(slurm_launcher, "POLL_INTERVAL_S", 0.5)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda s: (slept.append(s), clock.__setitem__(0, clock[0] + s)))
    launcher = Slurm(StudyFolder(str(tmp_path), "s"), LaunchConfig())
    monkeypatch.setattr(launcher, "active", lambda ids: ids if len(slept) < polls else {})
    launcher._wait({"j": "7"}, timeout)
    assert len(slept) == sleeps
