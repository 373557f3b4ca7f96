"""A study in one command: a task file × environments × demonstrations × trials × seeds → jobs on tmux or SLURM.

The line to follow: parse → jobs, each held against main.py's own settings → files → launcher. What was started is
kept in ``data/spawn/<study>/``, from where it is followed, stopped, and started again.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milozero.environments import bundles
from milozero.experiment.metadata import read_metadata
from milozero.experiment.resume import find_conflicts
from milozero.experiment.watchdog import restore_signals
from milozero.helpers.config.flags import build_parser, read_flags
from milozero.helpers.config.params import build, param
from milozero.helpers.errors import UserError
from milozero.helpers.logging import flush_stdio, log_to_terminal, logger, pluralize
from milozero.helpers.progress import with_progress
from milozero.studies import job_status as reports
from milozero.studies import jobs as studies
from milozero.studies.calibers import CALIBERS
from milozero.studies.folder import Record, StudyFolder
from milozero.studies.jobs import Job, StudyConfig
from milozero.studies.launch_config import LaunchConfig
from milozero.studies.launchers.base import launcher_class
from milozero.studies.launchers.cluster import FILE, read_cluster
from milozero.studies.launchers.job_script import LaunchEnv

DESCRIPTION = "Run a study: a task file over the environments of a bundle and over seeds, on tmux or SLURM."
KEY, FROM_VARIABLE = "WANDB_API_KEY", "-"  # value of --wandb_api_key that stands for the variable
STOP_TIMEOUT_S = 120.0  # seconds that --stop leaves jobs to end their iteration and save


@dataclass(frozen=True, kw_only=True)
class FollowConfig:
    """What is done with a study that was started."""

    status: str = param("", "show each job of this study: its state, how far it is, its log")
    stop: str = param("", "end the jobs of this study, each with a checkpoint")
    resubmit: str = param(
        "", "start what failed, was stopped or has not begun in this study; it goes on where it was"
    )


GROUPS = {"study": StudyConfig, "launch": LaunchConfig, "a study that was launched": FollowConfig}


def epilog() -> str:
    """Return what follows the flags in ``-h``."""
    calibers = [f"{name:16}  {row.time:>10}  {row.cpu}, {row.gpu}" for name, row in CALIBERS.items()]
    examples = (
        "python spawner.py --config tasks/train_mujoco_ppo.yaml --env_bundle mujoco_small --num_seeds 3",
        "python spawner.py --config tasks/train_mujoco_ppo_hps.yaml --prefix search --sweep --num_trials 8",
        "python spawner.py --config tasks/train_mujoco_ppo.yaml --prefix big --deployment slurm --caliber long",
        "python spawner.py --status big",
    )
    parts = ["Examples:", *examples, "", "Bundles:", *bundles.format_bundles(), "", "Calibers:", *calibers]
    return "\n  ".join(parts)


def launch_study(study: StudyConfig, launch: LaunchConfig, key: str) -> None:
    """Start the jobs of a study that are neither finished nor at work; with ``--no-deploy_now`` only write them.

    Args:
        study: what to run over.
        launch: how.
        key: of Weights & Biases, for jobs that it takes part in.

    Raises:
        UserError: before anything is written, where one of them would not start.
    """
    studies.check(study)
    launch = checked(launch)
    wanted = study.wandb_entity or launch.wandb_base_url or launch.wandb_api_key
    project = study.prefix if wanted else ""
    jobs = studies.build_jobs(study, project, lambda axes: with_progress(axes, "checking"))
    if overruled := studies.overruled(study):
        logger.info(f"{study.config}: without effect here, where the study says it: {', '.join(overruled)}")
    if not launch.wandb_api_key and any(job.settings.tracking.wandb_project for job in jobs):
        launch = dataclasses.replace(launch, wandb_api_key=key)
    start(StudyFolder(study.data_dir, study.prefix), launch, jobs)


def checked(launch: LaunchConfig) -> LaunchConfig:
    """Return how a study is launched, from wherever that is; flags that are wrong together are refused.

    Raises:
        UserError: saying what to change.
    """
    if launch.docker and not launch.docker_image:
        raise UserError("--docker needs --docker_image=NAME (on a cluster the path of an image)")
    if launch.docker_image and not launch.docker:
        raise UserError("--docker_image needs --docker")
    if launch.cluster and launch.deployment != "slurm":
        raise UserError("--cluster needs --deployment=slurm")
    cluster, image = launch.cluster, launch.docker_image
    if launch.deployment == "slurm" and (cluster or os.path.exists(FILE)):
        cluster = os.path.abspath(cluster or FILE)
        read_cluster(cluster)  # a mistake in it is told before anything is written
    if image and launch.deployment == "slurm" and "://" not in image:
        image = os.path.abspath(image)
    return dataclasses.replace(launch, cluster=cluster, docker_image=image)


def start(folder: StudyFolder, launch: LaunchConfig, jobs: Sequence[Job]) -> None:
    """Write and start those of a study's jobs that are neither finished nor at work.

    Raises:
        UserError: where the launcher does not take them, or one has begun already with other settings.
    """
    launcher = launcher_class(launch.deployment)(folder, launch)
    if launch.deploy_now:
        launcher.check(jobs)
    refuse_others(folder, jobs)
    if launch.wandb_upgrade and launch.deploy_now and not launch.docker:  # a container's is upgraded in there
        upgrade_wandb(launch)
    with folder.lock():
        refuse_others(folder, jobs)  # again: another spawner may have been quicker
        record = folder.read_record()
        active = at_work(folder, record)
        finished = {job.name for job in jobs if reports.has_finished(folder, job.name, job.values())}
        todo = [job for job in jobs if job.name not in active | finished]
        write_files(folder, launch, todo, launcher.script)
        if todo:
            record.launch = {k: v for k, v in dataclasses.asdict(launch).items() if k != "wandb_api_key"}
        for job in todo:
            job_id = launcher.initial_job_id if launch.deploy_now else record.jobs.get(job.name, {}).get("job_id", "")
            record.jobs[job.name] = {"settings": job.values(), "deployment": launch.deployment, "job_id": job_id}
        folder.write_record(record)
        if launch.deploy_now:
            try:
                for name, job_id in with_progress(launcher.start(todo), "starting", len(todo)):
                    record.jobs[name]["job_id"] = job_id
            finally:
                folder.write_record(record)
    done = "started" if launch.deploy_now else "written"
    working = sum(job.name in active - finished for job in jobs)
    rest = f"{len(finished)} finished already, {working} at work already"
    logger.info(f"study {folder.name}: {len(jobs)} jobs; {len(todo)} {done}, {rest}")
    if launch.deploy_now:
        logger.info(f"watch:   {launcher.attach_command()}")
        logger.info(f"follow:  {follow_command('status', folder)}")
    elif todo:
        reports.show(reports.plan_table(todo))
        logger.info(f"to start one: {launcher.manual_command(todo[0].name)}")
        logger.info("to start all: the same command without --no-deploy_now")


def at_work(folder: StudyFolder, record: Record) -> set[str]:
    """Return the names of the jobs that wait or run."""
    return {job.name for job in reports.report(folder, record) if job.state in ("pending", "running")}


def refuse_others(folder: StudyFolder, jobs: Sequence[Job]) -> None:
    """Refuse a study under the name of another: its jobs could not go on where those of that name are.

    Raises:
        UserError: naming the first job and setting that differ.
    """
    record = folder.read_record()
    active = at_work(folder, record)
    for job in jobs:
        settings = dataclasses.replace(job.settings, explicit=frozenset(job.values()))
        then = read_metadata(folder.data / "checkpoints" / job.name)
        if then is None and job.name in active:
            then = record.jobs[job.name]["settings"]
        for name, was in find_conflicts(settings, then) if then is not None else ():
            now = job.values()[name]
            raise UserError(f"{job.name} was started with {name}={was}, now {name}={now}: choose another --prefix")


def write_files(
    folder: StudyFolder, launch: LaunchConfig, jobs: Sequence[Job], script: Callable[[Job, Sequence[str]], str]
) -> None:
    """Write the jobs' scripts, their settings where the scripts name them, and the key that they read.

    Raises:
        UserError: where the folder cannot be written.
    """
    import yaml

    if launch.wandb_api_key:
        folder.write(folder.key, launch.wandb_api_key, mode=0o600)
    for job in with_progress(jobs, "writing"):
        arguments = studies.arguments(job, launch.args_method, folder.settings(job.name))
        if launch.args_method == "yaml":
            folder.write(folder.settings(job.name), yaml.safe_dump(job.values(), sort_keys=False))
        folder.write(folder.script(job.name), script(job, arguments))
        if launch.deploy_now:
            folder.archive_previous(job.name)


def upgrade_wandb(launch: LaunchConfig) -> None:
    """Upgrade the wandb package in the environment of the jobs.

    Raises:
        UserError: where that fails.
    """
    python = [sys.executable]
    if launch.conda_env:
        python = [LaunchEnv.here().conda, "run", "-n", launch.conda_env, "python"]
    logger.info("upgrading wandb")
    try:
        command = [*python, "-m", "pip", "install", "--quiet", "--upgrade", "wandb"]
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--wandb_upgrade: {error}") from None
    if done.returncode:
        raise UserError(f"--wandb_upgrade: {done.stderr.strip() or 'pip failed'}")


def follow_command(flag: str, folder: StudyFolder) -> str:
    """Return the command that does something with a study."""
    words = [
        "python",
        "spawner.py",
        *([f"--{flag}", folder.name] if folder.name[0] != "-" else [f"--{flag}={folder.name}"]),
    ]
    if folder.data != Path("data").absolute():
        words.append(f"--data_dir={folder.data}")
    return shlex.join(words)


def show_status(folder: StudyFolder) -> bool:
    """Print how far each job is; tell whether there is one that has not finished."""
    found = reports.report(folder, folder.read_record())
    reports.show(reports.progress_table(found))
    for report in found:
        if report.reason:
            logger.info(f"{report.name} {report.state}: {report.reason}")
    logger.info(f"study {folder.name}: {len(found)} jobs: {reports.summary(found)}")
    return any(report.state != "finished" for report in found)


def stop(folder: StudyFolder) -> None:
    """End all jobs.

    Raises:
        UserError: where some do not end.
    """
    with folder.lock():
        record = folder.read_record()
        for deployment in sorted({job["deployment"] for job in record.jobs.values()}):
            launcher = launcher_class(deployment)(folder, record.launched(deployment))
            job_ids = reports.job_ids(record, deployment)
            if active := launcher.active(job_ids):
                jobs = pluralize(len(active), "job")
                logger.info(f"stopping {jobs}; each ends its iteration and saves, at most {STOP_TIMEOUT_S:.0f} s")
            launcher.stop(job_ids, STOP_TIMEOUT_S)
    if show_status(folder):
        logger.info(f"to go on: {follow_command('resubmit', folder)}")


def resubmit(folder: StudyFolder, key: str) -> None:
    """Start again what is neither finished nor at work.

    Args:
        folder: of the study.
        key: of Weights & Biases; where there is none, the one that the study has.

    Raises:
        UserError: as `start` does.
    """
    record = folder.read_record()
    if not any(job["settings"].get("wandb_project") for job in record.jobs.values()):
        key = ""
    elif not key and folder.key.exists():
        key = folder.key.read_text()
    launch = build(LaunchConfig, {}, record.launch | {"deploy_now": True, "wandb_api_key": key}, str(folder.path))
    jobs = [Job.from_values(name, job["settings"]) for name, job in record.jobs.items()]
    start(folder, launch, jobs)


def run(flags: dict[str, Any]) -> None:
    """Do what the command line says.

    Raises:
        UserError: for what the user can put right.
    """
    key = os.environ.pop(KEY, "")  # not for tmux's server or Slurm to keep
    if flags.get("wandb_api_key") == FROM_VARIABLE:
        flags["wandb_api_key"] = key
        if not key:
            raise UserError(f"--wandb_api_key={FROM_VARIABLE}: the variable {KEY} is not set")
    study, launch, follow = (build(cls, flags, {}) for cls in GROUPS.values())
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{KEY} is no key: it has other characters than letters and numbers")
    follow_up: dict[str, Callable[[StudyFolder], Any]] = {
        "status": show_status,
        "stop": stop,
        "resubmit": functools.partial(resubmit, key=key),
    }
    asked = [name for name in follow_up if name in flags]
    if not asked:
        launch_study(study, launch, key)
        return
    if idle := sorted(set(flags) - {asked[0], "data_dir"}):
        raise UserError(f"--{idle[0]} has no effect with --{asked[0]}")
    study = dataclasses.replace(study, prefix=getattr(follow, asked[0]))
    studies.check(study, asked[0])
    follow_up[asked[0]](StudyFolder(study.data_dir, study.prefix).require_exists())


def main(argv: list[str]) -> int:
    """Run the command line and return its exit code: 0 done, 2 for a mistake of the user's.

    May be called repeatedly in one process.
    """
    ends = (signal.SIGTERM, signal.SIGHUP)
    with restore_signals(*ends), log_to_terminal():
        for number in ends:  # what was started is written down all the same
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
        try:
            run(read_flags(build_parser("spawner.py", DESCRIPTION, epilog(), GROUPS), argv))
        except UserError as error:
            logger.error(str(error))
            return 2
        except KeyboardInterrupt:
            return 130
        return 0


def hide_key(argv: list[str]) -> None:
    """Start anew with the Weights & Biases key in a variable, if it is in the command, where all users can see it."""
    flag = "--wandb_api_key"
    for place, word in enumerate(argv):
        name, equals, key = word.partition("=")
        value = argv[place + 1 : place + 2]
        if name != flag or (key if equals else [*value, ""][0]) in ("", FROM_VARIABLE):
            continue
        if not equals and value[0].startswith("--"):
            continue  # the next flag: no key was given
        os.environ[KEY] = key if equals else value[0]
        words = [*argv[:place], f"{flag}={FROM_VARIABLE}", *argv[place + (1 if equals else 2) :]]
        os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), *words])


if __name__ == "__main__":
    hide_key(sys.argv[1:])
    code = main(sys.argv[1:])
    flush_stdio()
    sys.exit(code)
