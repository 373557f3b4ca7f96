"""The commands of ``spawner.py``: launch a study, show its status, stop it, resubmit it.

A launch checks the jobs, writes their scripts and ``data/spawn/<study>/study.json``, and starts them.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from milozero.experiment.checkpoint import read_metadata
from milozero.experiment.resume import find_conflicts
from milozero.helpers.errors import UserError
from milozero.helpers.logging import log_result, logger, pluralize
from milozero.helpers.progress import with_progress
from milozero.studies import job_status
from milozero.studies.config import LaunchConfig, StudyConfig
from milozero.studies.folder import StudyFolder, StudyMetadata, check_study_name
from milozero.studies.jobs import Job, build_jobs, find_ignored_settings
from milozero.studies.launchers.base import Launcher, launcher_class
from milozero.studies.launchers.cluster import CLUSTER_FILE, read_cluster
from milozero.studies.launchers.job_script import LaunchEnv, build_arguments

STOP_TIMEOUT_S = 120.0  # for jobs to finish their iteration and save a checkpoint


def launch_study(study: StudyConfig, launch: LaunchConfig, key: str) -> None:
    """Launch a study: start its jobs that are neither finished nor active, or only write their files.

    Jobs that log to Weights & Biases use `key` unless ``--wandb_api_key`` is set.

    Raises:
        UserError: if a job could not start; then nothing is written.
    """
    check_study_name(study.prefix)
    launch = resolve_launch(launch)
    uses_wandb = study.wandb_entity or launch.wandb_base_url or launch.wandb_api_key
    project = study.prefix if uses_wandb else ""
    jobs = build_jobs(study, project)
    if ignored := find_ignored_settings(study):
        logger.info(f"{study.config}: ignored, because the study sets it: {', '.join(ignored)}")
    if not launch.wandb_api_key and any(job.settings.tracking.wandb_project for job in jobs):
        launch = dataclasses.replace(launch, wandb_api_key=key)
    start_jobs(StudyFolder(study.data_dir, study.prefix), launch, jobs)


def resolve_launch(launch: LaunchConfig) -> LaunchConfig:
    """Check that launch settings fit together, and return them with absolute paths.

    Raises:
        UserError: if they do not, or the cluster file is invalid.
    """
    if launch.docker and not launch.docker_image:
        raise UserError("--docker requires --docker_image=NAME (with SLURM, the path of an image)")
    if launch.docker_image and not launch.docker:
        raise UserError("--docker_image requires --docker")
    if launch.cluster and launch.deployment != "slurm":
        raise UserError("--cluster requires --deployment=slurm")
    cluster, image = launch.cluster, launch.docker_image
    if launch.deployment == "slurm" and (cluster or os.path.exists(CLUSTER_FILE)):
        cluster = os.path.abspath(cluster or CLUSTER_FILE)
        read_cluster(cluster)
    if image and launch.deployment == "slurm" and "://" not in image:
        image = os.path.abspath(image)
    return dataclasses.replace(launch, cluster=cluster, docker_image=image)


def start_jobs(folder: StudyFolder, launch: LaunchConfig, jobs: Sequence[Job]) -> None:
    """Write the jobs that are neither finished nor active and, with ``--deploy_now``, start them.

    Raises:
        UserError: if the launcher rejects the jobs, or one of them was started with other settings.
    """
    launcher = launcher_class(launch.deployment)(folder, launch)
    if launch.deploy_now:
        launcher.check(jobs)
    check_same_settings(folder, jobs)
    if launch.wandb_upgrade and launch.deploy_now and not launch.docker:  # containers upgrade it themselves
        upgrade_wandb(launch)
    with folder.lock():
        check_same_settings(folder, jobs)  # again, because another spawner may have started them meanwhile
        metadata = folder.read_metadata()
        active = find_active_jobs(folder, metadata)
        finished = {job.name for job in jobs if job_status.has_finished(folder, job.name, job.to_dict())}
        new_jobs = [job for job in jobs if job.name not in active | finished]
        write_files(folder, launch, new_jobs, launcher)
        update_metadata(metadata, launch, new_jobs, launcher)
        folder.write_metadata(metadata)
        if launch.deploy_now:
            try:
                for name, job_id in with_progress(launcher.start(new_jobs), "starting", len(new_jobs)):
                    metadata.jobs[name]["job_id"] = job_id
            finally:
                folder.write_metadata(metadata)
    num_active = sum(job.name in active - finished for job in jobs)
    counts = f"{len(new_jobs)} {'started' if launch.deploy_now else 'written'}"
    counts += f", {len(finished)} already finished, {num_active} already active"
    log_result(f"study {folder.name}: {pluralize(len(jobs), 'job')}; {counts}")
    if launch.deploy_now:
        logger.info(f"watch:   {launcher.attach_command()}")
        logger.info(f"follow:  {follow_command('status', folder)}")
    elif new_jobs:
        job_status.print_table(lambda console: job_status.build_plan_table(new_jobs, console))
        logger.info(f"to start one job: {launcher.manual_command(new_jobs[0].name)}")
        logger.info("to start all jobs: repeat the command without --no-deploy_now")


def find_active_jobs(folder: StudyFolder, metadata: StudyMetadata) -> set[str]:
    """Return the names of the pending and running jobs."""
    return {job.name for job in job_status.read_job_status(folder, metadata) if job.state in ("pending", "running")}


def check_same_settings(folder: StudyFolder, jobs: Sequence[Job]) -> None:
    """Raise a UserError if a job has begun with other settings, e.g. in another study of the same name."""
    metadata = folder.read_metadata()
    active = find_active_jobs(folder, metadata)
    for job in jobs:
        settings = dataclasses.replace(job.settings, explicit=frozenset(job.to_dict()))
        previous = read_metadata(folder.data_dir / "checkpoints" / job.name)
        if previous is None and job.name in active:
            previous = metadata.jobs[job.name]["settings"]
        for name, old in find_conflicts(settings, previous) if previous is not None else ():
            new = job.to_dict()[name]
            raise UserError(f"{job.name} was started with {name}={old}, now {name}={new}; choose another --prefix")


def write_files(folder: StudyFolder, launch: LaunchConfig, jobs: Sequence[Job], launcher: Launcher) -> None:
    """Write the jobs' scripts, their settings files and the keys that they read, or raise a UserError."""
    import yaml

    for job in with_progress(jobs, "writing"):
        settings_path = folder.job_file(job.name, ".yaml")
        if launch.args_method == "yaml":
            folder.write(settings_path, yaml.safe_dump(job.to_dict(), sort_keys=False))
        arguments = build_arguments(job, launch.args_method, settings_path)
        if launch.wandb_api_key:
            folder.write(folder.job_file(job.name, ".key"), launch.wandb_api_key, mode=0o600)
        folder.write(folder.job_file(job.name, ".sh"), launcher.script(job, arguments))
        if launch.deploy_now:
            folder.archive_previous(job.name)


def update_metadata(metadata: StudyMetadata, launch: LaunchConfig, jobs: Sequence[Job], launcher: Launcher) -> None:
    """Add jobs that are about to start, and their launch settings, to a study's metadata."""
    if jobs:
        metadata.launch = {k: v for k, v in dataclasses.asdict(launch).items() if k != "wandb_api_key"}
    for job in jobs:
        previous_id = metadata.jobs.get(job.name, {}).get("job_id", "")
        metadata.jobs[job.name] = {
            "settings": job.to_dict(),
            "cwd": job.cwd,
            "deployment": launch.deployment,
            "job_id": launcher.initial_job_id if launch.deploy_now else previous_id,
        }


def upgrade_wandb(launch: LaunchConfig) -> None:
    """Upgrade the wandb package in the Python environment of the jobs, or raise a UserError."""
    python = [sys.executable]
    if launch.conda_env:
        python = [LaunchEnv.current().conda, "run", "-n", launch.conda_env, "python"]
    logger.info("upgrading wandb")
    try:
        command = [*python, "-m", "pip", "install", "--quiet", "--upgrade", "wandb"]
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--wandb_upgrade: {error}") from None
    if result.returncode:
        raise UserError(f"--wandb_upgrade: {result.stderr.strip() or 'pip failed'}")


def follow_command(flag: str, folder: StudyFolder) -> str:
    """Return the command that applies a flag of `FollowConfig` to a study."""
    words = ["python", "spawner.py"]
    words += [f"--{flag}={folder.name}"] if folder.name.startswith("-") else [f"--{flag}", folder.name]
    if folder.data_dir != Path("data").absolute():
        words.append(f"--data_dir={folder.data_dir}")
    return shlex.join(words)


def show_status(folder: StudyFolder) -> bool:
    """Print the status of each job; return whether any of them has not finished."""
    jobs = job_status.read_job_status(folder, folder.read_metadata())
    job_status.print_table(lambda console: job_status.build_status_table(jobs, console))
    for job in jobs:
        if job.reason:
            logger.info(f"{job.name} {job.state}: {job.reason}")
        if job.state == "finished":  # its runner may have been killed, or its script started by hand
            folder.job_file(job.name, ".key").unlink(missing_ok=True)
    log_result(f"study {folder.name}: {pluralize(len(jobs), 'job')}: {job_status.summarize(jobs)}")
    logs = job_status.relative(folder.data_dir / "logs")
    logger.info(f"metrics and logs of a job: {logs}/JOB/progress.csv, {logs}/JOB/log.txt")
    logger.info(f"its output: {job_status.relative(folder.path)}/JOB.out")
    return any(job.state != "finished" for job in jobs)


def stop_study(folder: StudyFolder) -> None:
    """Stop all jobs, or raise a UserError."""
    with folder.lock():
        for launcher, job_ids in job_status.started_jobs(folder, folder.read_metadata()):
            if active := launcher.active(job_ids):
                jobs = pluralize(len(active), "job")
                logger.info(f"stopping {jobs}; waiting up to {STOP_TIMEOUT_S:.0f} s for checkpoints")
            launcher.stop(job_ids, STOP_TIMEOUT_S)
        for name in folder.read_metadata().jobs:  # the runner of a job may have been killed
            folder.job_file(name, ".key").unlink(missing_ok=True)
    if show_status(folder):
        logger.info(f"to resume: {follow_command('resubmit', folder)}")


def resubmit_study(folder: StudyFolder, key: str) -> None:
    """Restart the jobs that are neither finished nor active, with the launch settings of the study.

    If `key`, for Weights & Biases, is empty, the key of a job that has not ended is used. Raises the errors of
    `start_jobs`.
    """
    metadata = folder.read_metadata()
    if not any(job["settings"].get("wandb_project") for job in metadata.jobs.values()):
        key = ""
    elif not (key := key or folder.read_key()):
        logger.warning("no Weights & Biases key: to upload the runs, set WANDB_API_KEY or run `wandb login`")
    launch = metadata.launch_config(deploy_now=True, wandb_api_key=key)
    jobs = [Job.from_dict(name, job["settings"], job["cwd"]) for name, job in metadata.jobs.items()]
    start_jobs(folder, launch, jobs)
