"""Jobs on a SLURM cluster: one script per job; jobs that request the same resources are submitted as an array.

Shortly before its time limit a job saves a checkpoint, requeues itself, and later resumes.

A site's Slurm programs may be wrapped in scripts, or print banners: only lines of the expected form are read.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from milozero.helpers.errors import UserError
from milozero.helpers.logging import pluralize
from milozero.studies.config import LaunchConfig
from milozero.studies.folder import StudyFolder
from milozero.studies.jobs import Job
from milozero.studies.launchers import job_script
from milozero.studies.launchers.cluster import Cluster, read_cluster
from milozero.studies.launchers.job_script import WORKSPACE, LaunchEnv, quote

MAX_ARRAY_SIZE = 1000  # jobs; Slurm's default limit is 1001
MAX_SCANCEL_JOBS = 500  # job ids on one command line
KILL_TIMEOUT_S = 120.0  # until canceled jobs have ended
POLL_INTERVAL_S = 1.0
PENDING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
# What sbatch prints, with --parsable and without; the cluster is named if there are several.
JOB_ID_LINE = re.compile(r"^(?:(\d+)(?:;(\S+))?|.*Submitted batch job (\d+)(?: on cluster (\S+))?)\s*$", re.MULTILINE)
# Marks our lines in the output of squeue.
STATE_MARK = "milozero-job"
STATE_LINE = re.compile(rf"{STATE_MARK}\|(\d+(?:_\d+)?)\|([A-Z_]+)")
ACTIVE_STATES = dict.fromkeys(PENDING, "pending") | dict.fromkeys(RUNNING, "running")  # by squeue's name


def header(name: str, job: Job, launch: LaunchConfig, cluster: Cluster, output: Path, array: int = 0) -> list[str]:
    """Return the ``#SBATCH`` lines of a job, or of an array of `array` jobs with the same resources."""
    caliber, gpu = cluster.calibers[launch.caliber], job.settings.common.cuda
    options = {
        "job-name": name,
        "output": str(output).replace("%", "%%"),
        "open-mode": "append",  # a requeued job keeps its earlier output
        "array": f"0-{array - 1}" if array else "",
        "ntasks": str(job.num_workers),
        "cpus-per-task": "1",
        "time": caliber.time_limit,
        "partition": caliber.gpu_partition if gpu else caliber.cpu_partition,
        "mem-per-cpu": cluster.memory,
        "constraint": cluster.constraint,
        "account": cluster.account,
        "signal": f"B:USR1@{caliber.signal_lead_s}",
    }
    words = [f"--{option}={quote_for_sbatch(value)}" for option, value in options.items() if value]
    words += ["--requeue", *([cluster.gpu] if gpu else []), *cluster.options]
    return ["#!/usr/bin/env bash", *(f"#SBATCH {word}" for word in words)]


def quote_for_sbatch(value: str) -> str:
    """Return a value quoted for an ``#SBATCH`` line, which parses quotes and backslashes like a shell."""
    if not set(value) & set(" \"'\\#"):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def script(
    job: Job, arguments: Sequence[str], launch: LaunchConfig, cluster: Cluster, folder: StudyFolder, env: LaunchEnv
) -> str:
    """Return the text of a job's script."""
    words = ["python", job_script.main_path(launch, env), *arguments]
    command = shlex.join(words)
    find_container = []
    if launch.docker:
        mounts = job_script.bind_mounts(folder, env, job.settings.sources)
        options = [*(["--nv"] if job.settings.common.cuda else [])]
        options += [word for mount in mounts for word in ("--bind", mount)]
        options += ["--pwd", WORKSPACE, launch.docker_image, *job_script.container_command(words, launch)]
        command = f'"$container" exec {shlex.join(options)}'
        missing = "{ echo 'error: neither apptainer nor singularity is installed on this node' >&2; exit 1; }"
        find_container = [f"container=$(command -v apptainer || command -v singularity) || {missing}"]
    # A terminated job may have been requeued and still needs its files.
    temporary = [*(["sh", "yaml"] if launch.clear else []), *(["key"] if launch.wandb_api_key else [])]
    files = " ".join(f'"$job.{suffix}"' for suffix in temporary)
    cleanup = f'; [ "$code" = 143 ] || rm -f {files}' if files else ""
    lines = [
        *header(job.name, job, launch, cluster, folder.job_file(job.name, ".out")),
        "set -eo pipefail",
        f"job={quote(folder.path / job.name)}",
        f"status={quote(folder.data_dir / 'logs' / job.name / 'status.json')}",
        'rm -f "$job.exit"',
        f'write_exit_code() {{ code=$?; echo "$code" >"$job.exit"{cleanup}; }}',
        "trap write_exit_code EXIT",
        "trap 'exit 143' TERM",
        *(f"module load {quote(module)}" for module in cluster.modules),
        *cluster.commands,
        *job_script.setup_lines(job, launch, folder, env),
        *find_container,
        f"grace_s={cluster.calibers[launch.caliber].signal_lead_s // 2}",
    ]
    _, _, body = Path(__file__).with_name("slurm_job.sh").read_text().partition("\n\n")
    return "\n".join([*lines, body.replace("COMMAND", f"{cluster.mpi} {command}")])


def array_script(jobs: Sequence[Job], launch: LaunchConfig, cluster: Cluster, folder: StudyFolder) -> str:
    """Return the text of an array's script, for `jobs` with the same resources."""
    lines = [
        *header(folder.name, jobs[0], launch, cluster, folder.path / "array.out", len(jobs)),
        "jobs=(",
        *(f"  {quote(job.name)}" for job in jobs),
        ")",
        f"job={quote(folder.path)}/${{jobs[$SLURM_ARRAY_TASK_ID]}}",
        'exec bash "$job.sh" >>"$job.out" 2>&1',
    ]
    return "\n".join(lines) + "\n"


class Slurm:
    """A `Launcher` that submits jobs to SLURM; a job's id is its number, then ``;CLUSTER`` if sbatch names one."""

    initial_job_id = ""

    def __init__(self, folder: StudyFolder, launch: LaunchConfig) -> None:
        self._folder, self._launch = folder, launch
        self._env = LaunchEnv.current()

    @functools.cached_property
    def _cluster(self) -> Cluster:
        """The site's settings; read lazily, because following and stopping jobs do not need them."""
        return read_cluster(self._launch.cluster)

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise a UserError if a program or image is missing, or if Slurm rejects the resources."""
        if not shutil.which("sbatch"):
            raise UserError("--deployment=slurm: sbatch is not installed; is this a cluster's login node?")
        if "\\" in str(self._folder.path):
            raise UserError(f"{self._folder.path}: Slurm does not support backslashes in paths")
        if self._launch.docker:
            job_script.check_bind_mounts(jobs, self._folder, self._env)
            image = self._launch.docker_image
            if "://" not in image and not os.path.exists(image):
                raise UserError(f"--docker_image={image}: no such file; give the path of an image, or docker://NAME")
        for group in group_by_resources(jobs):
            lines = header(self._folder.name, group[0], self._launch, self._cluster, Path("/dev/null"))
            _run_slurm("sbatch", "--test-only", text="\n".join([*lines, "true", ""]))

    def script(self, job: Job, arguments: Sequence[str]) -> str:
        """Return the text of a job's script, for `arguments` of ``main.py``."""
        return script(job, arguments, self._launch, self._cluster, self._folder, self._env)

    def start(self, jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
        """Submit jobs, those with the same resources as one array; yield (name, job id) of each."""
        for group in group_by_resources(jobs):
            if len(group) == 1:
                yield group[0].name, _submit(self._folder.job_file(group[0].name, ".sh").read_text())
                continue
            number, *cluster = _submit(array_script(group, self._launch, self._cluster, self._folder)).split(";")
            yield from ((job.name, ";".join([f"{number}_{index}", *cluster])) for index, job in enumerate(group))

    def active(self, job_ids: Mapping[str, str]) -> dict[str, str]:
        """Return name → ``pending`` or ``running`` of the jobs that are either."""
        if not job_ids:
            return {}
        states: dict[str, str] = {}
        for suffix, option, _ in group_by_cluster(job_ids.values()):
            output = _run_slurm("squeue", *option, "--me", "--array", "--noheader", f"--format={STATE_MARK}|%i|%T")
            states |= {f"{number}{suffix}": state for number, state in STATE_LINE.findall(output)}
        active = {name: ACTIVE_STATES.get(states.get(job_id, "")) for name, job_id in job_ids.items()}
        return {name: state for name, state in active.items() if state}

    def stop(self, job_ids: Mapping[str, str], timeout: float) -> None:
        """Ask jobs to save and stop; cancel those that have not stopped after `timeout` seconds; wait for them."""
        states = self.active(job_ids)
        running = [name for name, state in states.items() if state == "running"]
        training = [name for name in running if self._folder.read_status(name).get("state") == "running"]
        _cancel(job_ids[name] for name in states if name not in training)
        # Signal only the workers: the job's script would requeue the job.
        _cancel((job_ids[name] for name in training), "--signal=USR1")
        self._wait(job_ids, timeout)
        _cancel(job_ids[name] for name in self.active(job_ids))
        self._wait(job_ids, KILL_TIMEOUT_S)
        if remaining := self.active(job_ids):
            job_id = job_ids[next(iter(remaining))]
            raise UserError(
                f"{pluralize(len(remaining), 'job')} did not stop, e.g. {job_id}; see {self.attach_command()}"
            )

    def _wait(self, job_ids: Mapping[str, str], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.active(job_ids) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)

    def manual_command(self, name: str) -> str:
        """Return the command that starts one job."""
        return (
            f"env -u WANDB_API_KEY sbatch {quote(self._folder.job_file(name, '.sh'))}"  # Slurm stores the variables
        )

    def attach_command(self) -> str:
        """Return the command that shows the active jobs."""
        return "squeue --me"


def group_by_resources(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield lists of jobs with the same resources, each short enough for an array."""
    groups: dict[tuple[int, bool], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.num_workers, job.settings.common.cuda), []).append(job)
    for group in groups.values():
        yield from (group[first : first + MAX_ARRAY_SIZE] for first in range(0, len(group), MAX_ARRAY_SIZE))


def group_by_cluster(job_ids: Iterable[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield, for each cluster, the suffix of its job ids, the option that selects it, and the numbers of its jobs."""
    groups: dict[str, list[str]] = {}
    for job_id in job_ids:
        number, separator, cluster = job_id.partition(";")
        groups.setdefault(separator + cluster, []).append(number)
    for suffix, numbers in groups.items():
        yield suffix, [f"--clusters={suffix[1:]}"] if suffix else [], numbers


def _submit(text: str) -> str:
    """Submit a job and return its id, with its cluster if sbatch names one."""
    output = _run_slurm("sbatch", "--parsable", text=text)
    found = JOB_ID_LINE.findall(output)
    if not found:
        raise UserError(f"sbatch printed no job id: {' '.join(output.split()) or 'nothing'}; check squeue --me")
    number, cluster, spelled_number, spelled_cluster = found[-1]  # banners come first
    return ";".join(filter(None, [number or spelled_number, cluster or spelled_cluster]))


def _cancel(job_ids: Iterable[str], *options: str) -> None:
    for _, option, numbers in group_by_cluster(job_ids):
        for first in range(0, len(numbers), MAX_SCANCEL_JOBS):
            batch = numbers[first : first + MAX_SCANCEL_JOBS]
            subprocess.run(["scancel", *option, *options, *batch], capture_output=True, check=False)


def _run_slurm(*command: str, text: str | None = None) -> str:
    """Run a Slurm program and return its output, or raise a UserError with its error message."""
    # Inside a job, that job's variables would set the memory and tasks of new jobs.
    kept = ("SLURM_CONF", "SLURM_CLUSTERS")
    variables = {name: v for name, v in os.environ.items() if not name.startswith("SLURM_") or name in kept}
    try:
        # Banners may have any encoding.
        result = subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", errors="replace", check=False, env=variables
        )
    except OSError as error:
        raise UserError(f"{command[0]}: {error.strerror}") from None
    if result.returncode:
        lines = result.stderr.splitlines()
        own = [line for line in lines if line.startswith(f"{command[0]}: ")] or lines
        raise UserError(" ".join(" ".join(own).split()) or f"{command[0]} failed with exit code {result.returncode}")
    return result.stdout
