"""What Slurm is asked and told, with programs that play its own."""

import os

import pytest

from milozero.experiment.command_line import parse
from milozero.helpers.errors import UserError
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
from milozero.studies.launch_config import LaunchConfig
from milozero.studies.launchers.slurm import Slurm, _cancel


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Have a cluster that takes what it is asked; returns where its sbatch writes that down."""
    program = tmp_path / "sbatch"
    program.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/asked"\ncat >>"{tmp_path}/asked"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "asked"


def check(folder, image):
    launch = LaunchConfig(deployment="slurm", docker=True, docker_image=image)
    Slurm(StudyFolder(str(folder / "data"), "s"), launch).check([Job("j", parse([]))])


def test_image_may_be_the_address_of_one_that_apptainer_fetches(asked, tmp_path):
    check(tmp_path, "docker://user/milozero:mujoco")
    assert asked.read_text().startswith("--test-only\n#!/usr/bin/env bash\n#SBATCH --job-name=s\n")


def test_image_may_be_a_file(asked, tmp_path):
    (tmp_path / "the image.sif").touch()
    check(tmp_path, f"{tmp_path}/the image.sif")
    assert asked.exists()


def test_image_that_is_no_file_is_refused_before_slurm_is_asked(asked, tmp_path):
    with pytest.raises(UserError, match=r"--docker_image=user/milozero: no such file; .* docker://NAME"):
        check(tmp_path, "user/milozero")
    assert not asked.exists()


def test_folder_that_slurm_cannot_be_told_is_refused(asked, tmp_path):
    with pytest.raises(UserError, match="Slurm cannot be given a file's name with a backslash"):
        check(tmp_path / "a\\b", "docker://user/milozero")
    assert not asked.exists()


def test_what_scancel_prints_stays_out_of_the_terminal(tmp_path, monkeypatch, capfd):
    program = tmp_path / "scancel"
    program.write_text('#!/bin/sh\necho "$@" >> "$0.log"\necho "scancel: error: Invalid job id" | tee /dev/stderr\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    _cancel(["7", "8_1"], "--signal=USR1")
    assert (tmp_path / "scancel.log").read_text() == "--signal=USR1 7 8_1\n"
    assert capfd.readouterr() == ("", "")
