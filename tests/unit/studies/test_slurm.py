"""Calls of Slurm's programs, with fake ones."""

import os

import pytest

from milozero.experiment.command_line import parse
from milozero.helpers.errors import UserError
from milozero.studies.config import LaunchConfig
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
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


def test_output_of_scancel_is_hidden(tmp_path, monkeypatch, capfd):
    program = tmp_path / "scancel"
    program.write_text('#!/bin/sh\necho "$@" >> "$0.log"\necho "scancel: error: Invalid job id" | tee /dev/stderr\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    _cancel(["7", "8_1"], "--signal=USR1")
    assert (tmp_path / "scancel.log").read_text() == "--signal=USR1 7 8_1\n"
    assert capfd.readouterr() == ("", "")
