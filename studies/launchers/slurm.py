"""Jobs on a SLURM cluster: a script for each, jobs that ask for the same submitted as one array.

A job whose time is over is told a little before, saves, goes back into the queue, and goes on where it was.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milozero.helpers.errors import UserError
from milozero.studies.folder import StudyFolder
from milozero.studies.launch_config import LaunchConfig
from milozero.studies.launchers.cluster import Cluster, read_cluster
from milozero.studies.launchers.job_script import (
    WORKSPACE,
    LaunchEnv,
    check_mounts,
    environment,
    in_container,
    mounts,
    quoted,
)

if TYPE_CHECKING:
    from milozero.studies.jobs import Job

MAX_ARRAY_SIZE = 1000  # jobs of one array; Slurm's own limit is 1001, where a site has not changed it
KILL_TIMEOUT_S = 120.0  # seconds for a canceled job to be gone

# What starts the run, and looks after it.
TAIL = """\
saved() {{ sed -n 's/.*"saved_iteration": \\([0-9]*\\).*/\\1/p' "$status" 2>/dev/null || true; }}
requeue() {{
  if [ "$(saved)" = "$before" ]; then
    echo "error: no checkpoint was reached in one piece: a longer --caliber or a lower save_frequency" >&2
    return 1
  fi
  trap - EXIT  # it has not ended
  # To scontrol, the number of an array's last task is that of the whole array.
  number=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_}}${{SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}}
  scontrol requeue "$number" || {{ trap ended EXIT; return 1; }}
}}
# Slurm's signal says that the time is almost over: save, stop, and back into the queue. Where even the iteration
# takes too long for that, the last checkpoint is what there is to go on from.
time_is_over() {{
  over=yes
  kill -USR1 "$run" || true
  (trap 'kill $!; exit' TERM; sleep {last_call} & wait $!; requeue) &
  last_call=$!
}}
over=
before=$(saved)
{command} &
run=$!
trap 'interrupted=yes; [ "$over" ] || time_is_over' USR1
while interrupted=; do
  wait "$run" && code=0 || code=$?
  [ "$interrupted" ] || break
done
if [ "$over" ]; then
  kill "$last_call" 2>/dev/null || true
  if [ "$code" = 0 ] && grep -q '"state": "stopped"' "$status"; then
    if requeue; then exit 0; fi
    code=1
  fi
fi
exit "$code"
"""


def header(name: str, job: Job, launch: LaunchConfig, cluster: Cluster, output: Path, array: int = 0) -> list[str]:
    """Return the ``#SBATCH`` lines of a job, or of an array of `array` jobs that ask for the same."""
    caliber, gpu = cluster.calibers[launch.caliber], job.settings.common.cuda
    options = {
        "job-name": name,
        "output": str(output).replace("%", "%%"),
        "open-mode": "append",  # a job that goes on writes behind what it wrote
        "array": f"0-{array - 1}" if array else "",
        "ntasks": str(job.workers),
        "cpus-per-task": "1",
        "time": caliber.time,
        "partition": caliber.gpu if gpu else caliber.cpu,
        "mem-per-cpu": cluster.memory,
        "constraint": cluster.constraint,
        "account": cluster.account,
        "signal": f"B:USR1@{caliber.notice}",
    }
    words = [f"--{option}={in_header(value)}" for option, value in options.items() if value]
    words += ["--requeue", *([cluster.gpu] if gpu else []), *cluster.options]
    return ["#!/usr/bin/env bash", *(f"#SBATCH {word}" for word in words)]


def in_header(value: str) -> str:
    """Return a value as sbatch reads it: quotes and backslashes mean to it what they mean to a shell."""
    if not set(value) & set(" \"'\\#"):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def script(
    job: Job,
    arguments: Sequence[str],
    launch: LaunchConfig,
    cluster: Cluster,
    folder: StudyFolder,
    here: LaunchEnv,
) -> str:
    """Return the text of a job's script."""
    command = ["python", "main.py", *arguments]
    if launch.docker:
        folders = mounts(folder, here, job.settings.sources)
        command = [
            *('"$container"', "exec"),
            *(["--nv"] if job.settings.common.cuda else []),
            *(word for pair in folders for word in ("--bind", pair)),
            *("--pwd", WORKSPACE, launch.docker_image),
            *in_container(command, launch),
        ]
    words = [word if word == '"$container"' else quoted(word) for word in command]
    missing = "{ echo 'error: there is neither apptainer nor singularity on this node' >&2; exit 1; }"
    which = f"container=$(command -v apptainer || command -v singularity) || {missing}"
    # Terminated, it may be on its way back into the queue, and needs its files.
    clear = '; [ "$code" = 143 ] || rm -f "$job.sh" "$job.yaml"' if launch.clear else ""
    lines = [
        *header(job.name, job, launch, cluster, folder.output(job.name)),
        "set -eo pipefail",
        f"job={quoted(folder.path / job.name)}",
        'rm -f "$job.exit"',
        f'ended() {{ code=$?; echo "$code" >"$job.exit"{clear}; }}',
        "trap ended EXIT",
        "trap 'exit 143' TERM",
        *(f"module load {quoted(module)}" for module in cluster.modules),
        *cluster.commands,
        *environment(launch, folder, here),
        *([which] if launch.docker else []),
        f"status={quoted(folder.data / 'logs' / job.name / 'status.json')}",
        TAIL.format(
            command=" ".join([cluster.mpi, *words]),
            last_call=cluster.calibers[launch.caliber].notice // 2,
        ),
    ]
    return "\n".join(lines)


def array_script(jobs: Sequence[Job], launch: LaunchConfig, cluster: Cluster, folder: StudyFolder) -> str:
    """Return the text of a script that runs the script of one of `jobs`, which all ask for the same."""
    lines = [
        *header(folder.name, jobs[0], launch, cluster, folder.path / "array.out", len(jobs)),
        "jobs=(",
        *(f"  {quoted(job.name)}" for job in jobs),
        ")",
        f"job={quoted(folder.path)}/${{jobs[$SLURM_ARRAY_TASK_ID]}}",
        'exec bash "$job.sh" >>"$job.out" 2>&1',
    ]
    return "\n".join(lines) + "\n"


class Slurm:
    """A `Launcher`. The place of a job is its number."""

    initial_job_id = ""

    def __init__(self, folder: StudyFolder, launch: LaunchConfig) -> None:
        self._folder, self._launch = folder, launch
        self._here = LaunchEnv.here()

    @functools.cached_property
    def _cluster(self) -> Cluster:
        """What the site's file says; not asked for where jobs are followed or stopped."""
        return read_cluster(self._launch.cluster)

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse what could not start here.

        Raises:
            UserError: saying what is missing, or what Slurm does not accept.
        """
        if not shutil.which("sbatch"):
            raise UserError("--deployment=slurm: there is no sbatch on this machine; is it a cluster's?")
        if "\\" in str(self._folder.path):
            raise UserError(f"{self._folder.path}: Slurm cannot be given a file's name with a backslash")
        if self._launch.docker:
            check_mounts(jobs, self._folder, self._here)
            image = self._launch.docker_image
            if "://" not in image and not os.path.exists(image):
                raise UserError(f"--docker_image={image}: no such file; on a cluster it is a path, or docker://NAME")
        for group in group_by_resources(jobs):
            lines = header(self._folder.name, group[0], self._launch, self._cluster, Path("/dev/null"))
            _slurm("sbatch", "--test-only", text="\n".join([*lines, "true", ""]))

    def script(self, job: Job, arguments: Sequence[str]) -> str:
        """Return the text of a job's script, for `arguments` of ``main.py``."""
        return script(job, arguments, self._launch, self._cluster, self._folder, self._here)

    def start(self, jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
        """Submit jobs, those that ask for the same as one array; yield (name, place).

        Raises:
            UserError: where Slurm refuses.
        """
        for group in group_by_resources(jobs):
            if len(group) == 1:
                yield group[0].name, _submit(self._folder.script(group[0].name).read_text())
                continue
            number = _submit(array_script(group, self._launch, self._cluster, self._folder))
            yield from ((job.name, f"{number}_{index}") for index, job in enumerate(group))

    def active(self, job_ids: Mapping[str, str]) -> dict[str, str]:
        """Return name → ``pending`` or ``running`` of those jobs that are either.

        Raises:
            UserError: where Slurm does not answer.
        """
        if not job_ids:
            return {}
        join_names = _slurm("squeue", "--me", "--array", "--noheader", "--format=%i|%T").split()
        states = dict(line.split("|", 1) for line in join_names)
        found = {name: STATES.get(states.get(job_id, "")) for name, job_id in job_ids.items()}
        return {name: state for name, state in found.items() if state}

    def stop(self, job_ids: Mapping[str, str], patience: float) -> None:
        """End jobs, with a checkpoint where they come to it within `patience` seconds.

        Raises:
            UserError: where they do not end.
        """
        states = self.active(job_ids)
        training = [
            n for n, state in states.items() if state == "running" and self._folder.status(n).get("state") == state
        ]
        _cancel(job_ids[name] for name in states if name not in training)
        # To the workers alone: on the same signal, a job's script would put it back into the queue.
        _cancel((job_ids[name] for name in training), "--signal=USR1")
        self._wait(job_ids, patience)
        _cancel(job_ids[name] for name in self.active(job_ids))
        self._wait(job_ids, KILL_TIMEOUT_S)
        if left := self.active(job_ids):
            raise UserError(
                f"{len(left)} jobs do not end, such as {job_ids[next(iter(left))]}: {self.attach_command()}"
            )

    def _wait(self, job_ids: Mapping[str, str], seconds: float) -> None:
        give_up = time.monotonic() + seconds
        while self.active(job_ids) and time.monotonic() < give_up:
            time.sleep(1.0)

    def manual_command(self, name: str) -> str:
        """Return the command that starts one job."""
        return f"env -u WANDB_API_KEY sbatch {quoted(self._folder.script(name))}"  # Slurm keeps the variables

    def attach_command(self) -> str:
        """Return the command that shows the jobs at work."""
        return "squeue --me"


# What squeue calls jobs that are not over.
PENDING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
STATES = dict.fromkeys(PENDING, "pending") | dict.fromkeys(RUNNING, "running")


def group_by_resources(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield jobs that ask for the same, at most as many as an array takes."""
    groups: dict[tuple[int, bool], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.workers, job.settings.common.cuda), []).append(job)
    for group in groups.values():
        yield from (group[first : first + MAX_ARRAY_SIZE] for first in range(0, len(group), MAX_ARRAY_SIZE))


def _submit(text: str) -> str:
    return _slurm("sbatch", "--parsable", text=text).strip().split(";")[0]


def _cancel(job_ids: Iterable[str], *options: str) -> None:
    numbers = list(job_ids)
    for first in range(0, len(numbers), 500):
        subprocess.run(["scancel", *options, *numbers[first : first + 500]], capture_output=True, check=False)


def _slurm(*command: str, text: str | None = None) -> str:
    """Run one of Slurm's programs and return its output.

    Raises:
        UserError: with what it says, where it fails.
    """
    # A job that this is started from must not leak into the new ones: its memory and tasks are not theirs.
    kept = ("SLURM_CONF", "SLURM_CLUSTERS")
    variables = {name: v for name, v in os.environ.items() if not name.startswith("SLURM_") or name in kept}
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=variables)
    except OSError as error:
        raise UserError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise UserError(" ".join(done.stderr.split()) or f"{command[0]} failed with exit code {done.returncode}")
    return done.stdout
