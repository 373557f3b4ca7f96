"""Studies on a real Slurm cluster of two nodes."""

import csv
import re
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.slurm import Slurm, available, free_ports, wait_until

pytestmark = [
    pytest.mark.skipif(not available(), reason="apt install slurm-wlm munge libpmix-dev"),
    pytest.mark.xdist_group("slurm"),
]
SITE = "partitions: {debug: test, short: test}\ntimes: {short: '00:30:00'}\n"
# Iterations take a sixth of a second on any machine.
SLOW = (
    "num_envs: 2\nrollout_len: 32\nbatch_size: 32\nepochs: 1\ncompile: false\neval_frequency: 0\neval_episodes: 1\n"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Slurm(tmp_path_factory.mktemp("s"), kill_wait=20) as slurm:
        yield slurm


@pytest.fixture
def on_cluster(studies, cluster):
    """Studies on the cluster, with a `cluster.yaml` in their working directory."""
    studies.env |= {name: cluster.env[name] for name in ("SLURM_CONF", "PATH")}
    (studies.folder / "cluster.yaml").write_text(SITE)
    yield studies
    cluster.run("scancel", "--me")
    wait_until(lambda: not queue(cluster), "the canceled jobs to end", 60)


def queue(cluster):
    return cluster.run("squeue", "--me", "--array", "--noheader", "--format=%i|%T").stdout.split()


def log(studies, job):
    path = studies.data / "logs" / job / "log.txt"
    return path.read_text() if path.exists() else ""


def rows(folder, job):
    """Return a run's metrics except those that depend on the clock."""
    metrics = list(csv.DictReader((folder / "logs" / job / "progress.csv").open()))
    return [{k: v for k, v in row.items() if "second" not in k and "time_left" not in k} for row in metrics]


def test_study_is_one_array_and_is_not_started_twice(on_cluster, cluster):
    """The study's name has characters that are special to a shell or to Slurm."""
    name = """it's %j $(touch y) "a"#"""
    command = (on_cluster.task("num_iters: 10\n"), f"--prefix={name}", "--deployment=slurm", "--num_seeds=2")
    assert "4 jobs; 4 started" in on_cluster.run(*command, "--num_workers=2", "--clear")
    assert len({number.partition("_")[0] for number in queue(cluster)}) == 1
    states = on_cluster.wait_for_end(name)
    assert list(states.values()) == ["finished"] * 4, on_cluster.outputs(name)
    assert len(states) == 4
    wait_until(lambda: not queue(cluster), "the jobs to end")
    for job in states:
        assert "num_iters=10 reached" in on_cluster.outputs(name)[f"{job}.out"]
        config = (on_cluster.data / "logs" / job / "config.yaml").read_text()
        assert "num_workers: 2" in config
    assert not list(on_cluster.files(name).glob("*.sh"))
    assert "4 jobs; 0 started, 4 already finished" in on_cluster.run(*command, "--num_workers=2")


def test_job_requeued_at_its_time_limit_ends_like_an_uninterrupted_one(on_cluster, cluster, milozero, tmp_path):
    """The limit is shortened once the job trains, because Slurm checks it only twice a minute.

    The two minutes that a requeued job has to wait are shortened, too.
    """
    job, iterations = "limit.tests.support.user_envs_Slow-v0.seed00", 330
    task = on_cluster.task("")
    (on_cluster.folder / "the task.yaml").write_text(SLOW + f"num_iters: {iterations}\n")
    flags = ("--prefix=limit", "--deployment=slurm", "--caliber=debug", "--num_workers=2")
    on_cluster.run(task, *flags, "--env_bundle=tests.support.user_envs:Slow-v0")
    (number,) = {line.split("|")[0] for line in queue(cluster)}
    progress = on_cluster.data / "logs" / job / "progress.csv"
    wait_until(lambda: progress.exists() and len(rows(on_cluster.data, job)) > 10, "ten iterations", 120)
    hours, minutes, _ = cluster.job(number)["RunTime"].split(":")
    limit = 60 * int(hours) + int(minutes) + 1
    cluster.run("scontrol", "update", f"JobId={number}", f"TimeLimit={limit}").check_returncode()
    wait_until(lambda: cluster.job(number).get("Reason") == "BeginTime", "the job to be requeued", 120)
    time.sleep(5)  # or the node may mistake the end of the first run for that of the second
    cluster.run("scontrol", "update", f"JobId={number}", "TimeLimit=10", "StartTime=now").check_returncode()
    assert list(on_cluster.wait_for_end("limit").values()) == ["finished"], on_cluster.outputs("limit")
    assert len(re.findall("SIGUSR1 received by worker", log(on_cluster, job))) == 1
    (resumed,) = re.findall(r"resuming after iteration (\d+), bit-exact", log(on_cluster, job))
    assert 10 < int(resumed) < iterations
    uninterrupted = milozero(
        f"--config={on_cluster.folder}/the task.yaml",
        "--env_id=tests.support.user_envs:Slow-v0",
        "--uuid=x",
        workers=2,
        timeout=300,
    )
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    assert rows(on_cluster.data, job) == rows(tmp_path / "data", "x")
    assert len(rows(on_cluster.data, job)) == iterations


def test_stop_saves_and_leaves_no_process_and_resubmit_resumes(on_cluster, cluster):
    task = on_cluster.task("num_timesteps: 1e9\n")
    on_cluster.run(task, "--prefix=s", "--deployment=slurm", "--num_seeds=2", "--num_workers=2")
    states = on_cluster.wait("s", lambda states: list(states.values()).count("running") == 2)
    running = [name for name, state in states.items() if state == "running"]
    files = [on_cluster.data / "logs" / job / "progress.csv" for job in running]
    wait_until(lambda: all(file.exists() for file in files), "the runs to begin", 60)
    assert "stopping 4 jobs" in on_cluster.run("--stop=s")
    assert queue(cluster) == []
    wait_until(lambda: not on_cluster.processes(), "the processes to end", 20)
    states = on_cluster.states("s")
    assert {states[job] for job in running} == {"stopped"}
    assert all((on_cluster.data / "checkpoints" / job / "last.pt").exists() for job in running)
    on_cluster.run("--resubmit=s")
    on_cluster.wait("s", lambda states: "resuming after iteration" in log(on_cluster, running[0]))
    on_cluster.run("--stop=s")


def test_rejected_jobs_are_a_one_line_error_and_not_submitted(on_cluster, cluster):
    (on_cluster.folder / "cluster.yaml").write_text("account: mine\n")
    assert "partition" in on_cluster.run(on_cluster.task(""), "--deployment=slurm", fails=True)
    (on_cluster.folder / "cluster.yaml").write_text(SITE + "constraint: nothing_has_it\n")
    assert on_cluster.run(on_cluster.task(""), "--deployment=slurm", fails=True).startswith("error: ")
    (on_cluster.folder / "cluster.yaml").write_text(SITE)
    flags = ("--deployment=slurm", "--prefix=back\\slash")
    assert "backslash" in on_cluster.run(on_cluster.task(""), *flags, fails=True)
    assert queue(cluster) == []
    assert not on_cluster.data.exists()


def test_unreachable_slurm_is_a_one_line_error(on_cluster, cluster, tmp_path):
    on_cluster.run(on_cluster.task("num_timesteps: 1e9\n"), "--prefix=s", "--deployment=slurm", "--num_workers=1")
    conf = tmp_path / "elsewhere.conf"
    port = free_ports(1)[0]
    text = Path(on_cluster.env["SLURM_CONF"]).read_text()
    conf.write_text(re.sub("SlurmctldPort=.*", f"SlurmctldPort={port}\nMessageTimeout=2", text))
    assert "Unable to contact" in on_cluster.run("--status=s", fails=True, SLURM_CONF=str(conf))
    on_cluster.run("--stop=s")


APPTAINER = """#!/bin/sh
echo "$@" >>'{log}'
shift
while true; do
  case "$1" in
    --bind) shift 2 ;;
    --pwd) cd '{root}'; shift 2 ;;
    *) break ;;
  esac
done
shift
exec "$@"
"""


def test_image_runs_in_apptainer(on_cluster, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "apptainer").write_text(APPTAINER.format(log=tmp_path / "apptainer.log", root=ROOT))
    (programs / "apptainer").chmod(0o755)
    on_cluster.env["PATH"] = f"{programs}:{Path(sys.executable).parent}:{on_cluster.env['PATH']}"
    (tmp_path / "the image.sif").touch()
    command = (on_cluster.task("num_iters: 1\n"), "--deployment=slurm", "--num_workers=1", "--docker")
    assert "no such file" in on_cluster.run(*command, "--docker_image=image.sif", fails=True)
    on_cluster.run(*command, "--docker_image=the image.sif")
    assert set(on_cluster.wait_for_end("study").values()) == {"finished"}, on_cluster.outputs("study")
    used = (tmp_path / "apptainer.log").read_text()
    assert f"exec --bind {ROOT}:/workspace --bind {on_cluster.data}:{on_cluster.data} --pwd /workspace" in used
    assert f"{tmp_path}/the image.sif python main.py" in used
