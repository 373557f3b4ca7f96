"""Whole job scripts. `python -m tests.unit.studies.test_job_scripts` rewrites the golden files."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from milozero.experiment.command_line import parse
from milozero.helpers.errors import UserError
from milozero.studies.config import CALIBERS, Caliber, LaunchConfig
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
from milozero.studies.launchers import job_script, slurm, tmux
from milozero.studies.launchers.cluster import Cluster
from milozero.studies.launchers.job_script import LaunchEnv, build_arguments

GOLDEN = Path(__file__).parent / "golden"
ENV = LaunchEnv(Path("/home/me/MiloZero"), Path("/home/me/venv/bin/python"), "/opt/conda/bin/conda")
FOLDER = StudyFolder("/scratch/my data", "it's $HOME")
SITE = Cluster(
    calibers=CALIBERS | {"debug": Caliber("00:15:00", "shared-cpu", "debug gpu")},
    modules=("GCC/12.3.0", "OpenMPI/4.1.5"),
    memory="4G",
    constraint="V4|V5",
    account="mine",
    gpu="--gres=gpu:1",
    mpi="srun --mpi=pmix_v3",
    options=("--exclude=cpu001",),
    commands=("ulimit -c 0",),
)


def job(*flags, name="it's $HOME.Hopper-v5.seed01"):
    common = ["--env_id=Hopper-v5", "--seed=1", f"--uuid={name}", "--num_workers=2", "--data_dir=/scratch/my data"]
    return Job(name, parse([*common, "--resume=auto", *flags]), "/home/me/my experiments")


def launch(**more):
    return LaunchConfig(**{"args_method": "minimal", **more})


def on_tmux(one, config, env=ENV):
    return tmux.script(one, build_arguments(one, "minimal", Path()), config, FOLDER, env)


def on_slurm(one, config, cluster=Cluster()):  # noqa: B008
    return slurm.script(one, build_arguments(one, "minimal", Path()), config, cluster, FOLDER, ENV)


def scripts():
    """Return name of the golden file → text of the script."""
    forwarded = dataclasses.replace(ENV, variables={"PYTHONPATH": "/home/me/my modules"})
    with_key = {"wandb_base_url": "https://wandb.example.org", "wandb_api_key": "SECRET"}
    image = {"docker": True, "docker_image": "docker_user/milozero:mujoco", "wandb_upgrade": True}
    demos = "--expert_path=/scratch/demos/Hopper-v5"
    gpu = job("--cuda", "--env_kwargs=reset_noise_scale=0.1")
    one_of_many = [job(name=f"many.Hopper-v5.seed{seed:02}") for seed in range(3)]
    return {
        "tmux.sh": on_tmux(job(), launch(), forwarded),
        "tmux_conda_wandb.sh": on_tmux(job(), launch(conda_env="py torch", **with_key)),
        "tmux_docker.sh": on_tmux(job(demos, "--cuda"), launch(conda_env="pytorch", **image, **with_key)),
        "slurm.sh": on_slurm(job(), launch()),
        "slurm_site.sh": on_slurm(gpu, launch(caliber="debug", clear=True, **with_key), SITE),
        "slurm_image.sh": on_slurm(
            job(demos, "--cuda"), launch(caliber="daylong", **image | {"docker_image": "/my/image.sif"})
        ),
        "slurm_array.sh": slurm.array_script(one_of_many, launch(caliber="long"), Cluster(), FOLDER),
    }


def test_relative_paths_of_modules_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ".:my modules:/shared:")
    expected = f"{tmp_path}:{tmp_path}/my modules:/shared:{tmp_path}"
    assert LaunchEnv.current().variables["PYTHONPATH"] == expected


@pytest.mark.parametrize("name", scripts())
def test_script_equals_the_golden_file(name):
    assert scripts()[name] == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", scripts())
def test_script_is_valid_bash_without_the_secret(name):
    text = scripts()[name]
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""
    assert "SECRET" not in text


def test_every_golden_file_is_tested():
    assert {path.name for path in GOLDEN.iterdir()} == set(scripts())


@pytest.mark.parametrize(
    ("caliber", "seconds"), [("debug", 60), ("veryveryshort", 90), ("veryshort", 360), ("veryveryverylong", 600)]
)
def test_signal_lead_grows_with_the_time_limit(caliber, seconds):
    assert CALIBERS[caliber].signal_lead_s == seconds


def test_calibers_are_the_contracts():
    times = "00:05:00 00:30:00 02:00:00 06:00:00 12:00:00 1-00:00:00 2-00:00:00 3-00:00:00 4-00:00:00"
    assert [row.time_limit for row in CALIBERS.values()] == times.split()
    assert {row.cpu_partition for row in list(CALIBERS.values())[:5]} == {"shared-cpu"}
    assert {row.gpu_partition for row in list(CALIBERS.values())[5:]} == {"public-gpu"}


def test_jobs_with_equal_resources_are_grouped_up_to_the_maximum_array_size():
    many = [job(name=f"n{i}") for i in range(3)]
    other = job("--num_workers=5", name="other")
    on_gpu = job("--cuda", name="gpu")
    groups = list(slurm.group_by_resources([many[0], other, many[1], on_gpu, many[2]]))
    assert groups == [many, [other], [on_gpu]]
    assert [len(group) for group in slurm.group_by_resources(many * 700)] == [1000, 1000, 100]


@pytest.mark.parametrize(
    ("folder", "flags"), [("/data:1", []), ("/data,1", []), ("/data", ["--expert_path=/demos:1"])]
)
def test_folder_that_a_container_cannot_mount_is_an_error(folder, flags):
    with pytest.raises(UserError, match=f"cannot mount {(flags or [folder])[-1].rpartition('=')[2]}: "):
        job_script.check_bind_mounts([job(*flags)], StudyFolder(folder, "x"), ENV)


@pytest.mark.parametrize("word", ["plain", "a b", 'quo"te', "it's", "back\\slash", "#hash", "$HOME"])
def test_sbatch_header_is_quoted_like_for_a_shell(word):
    from shlex import split

    assert split(slurm.quote_for_sbatch(word)) == [word]


if __name__ == "__main__":
    for name, text in scripts().items():
        (GOLDEN / name).write_text(text)
    sys.exit()
