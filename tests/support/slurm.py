"""A Slurm cluster of two nodes on this machine, without system services or files outside its folder.

It needs the programs of Debian's `slurm-wlm` and `munge`.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "sinfo", "scontrol")
# Debian installs the daemons in /usr/sbin, which is only on root's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
HOST = socket.gethostname().split(".")[0]
# The first node has the machine's name and sorts first, so that batch scripts run there and mpiexec recognizes it.
NODES = (HOST, f"{HOST}-2")

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge

StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
# One folder per node, or PMIx would find the other node's files.
TmpFS={folder}/tmp-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none

SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Use the number of CPUs below, whatever the machine has.
SlurmdParameters=config_overrides
ReturnToService=2
KillWait={kill_wait}
Epilog={folder}/epilog
SchedulerParameters=batch_sched_delay=0,sched_interval=1

{nodes}
PartitionName=test Nodes=ALL Default=YES State=UP MaxTime=60
"""

# Without cgroups Slurm loses track of a process whose parent has died, as mpiexec may before its ranks. Most clusters
# kill such processes when the job ends, and so does this epilog.
EPILOG = """\
#!{python}
import contextlib, os, pathlib, signal

job = {{b"SLURM_CONF={folder}/slurm.conf", b"SLURM_JOB_ID=" + os.environb[b"SLURM_JOB_ID"]}}
epilog = b"SLURM_SCRIPT_CONTEXT=epilog_slurmd"
for process in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):
        environ = set((process / "environ").read_bytes().split(b"\\0"))
        if job <= environ and epilog not in environ:
            os.kill(int(process.name), signal.SIGKILL)
"""


def available() -> bool:
    """Return whether Slurm's programs are installed."""
    return all(shutil.which(program, path=SEARCH_PATH) for program in PROGRAMS)


class Slurm:
    """A running cluster: `with Slurm(folder) as slurm: slurm.run("srun", "-n", "2", "hostname")`.

    `folder` must be new or empty, and its path short enough for a socket (about 90 characters). `kill_wait` is the
    time in seconds between SIGTERM and SIGKILL for a canceled job; Slurm's default is 30.
    """

    def __init__(self, folder: Path, cpus: int = 2, kill_wait: int = 5) -> None:
        self.folder, self.cpus, self.kill_wait = folder.absolute(), cpus, kill_wait
        # Without the variables of a surrounding cluster's job.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        self.env = inherited | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": SEARCH_PATH}
        self._running = ExitStack()

    def __enter__(self) -> Slurm:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("state", *(f"tmp-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        self._write_key()
        self._write_configuration()
        with self._running:
            self._start_daemons()
            self._running = self._running.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    def run(self, *command: str, timeout: float = 500) -> subprocess.CompletedProcess[str]:
        """Run a command on the cluster's front end and return the finished process, whatever its exit code."""
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=self.env, cwd=self.folder, check=False
        )

    def submit(self, *arguments: str) -> str:
        """Submit a batch job and return its number."""
        submitted = self.run("sbatch", "--parsable", *arguments)
        submitted.check_returncode()
        return submitted.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """Return what `scontrol show job` reports, such as `JobState` and `ExitCode`."""
        shown = self.run("scontrol", "--oneliner", "show", "job", number)
        shown.check_returncode()
        return dict(field.split("=", 1) for field in shown.stdout.split() if "=" in field)

    def wait_for_state(self, number: str, *states: str, timeout: float = 500) -> dict[str, str]:
        """Wait until a job is in one of the states, and return what `job` does."""
        wait_until(lambda: self.job(number)["JobState"] in states, f"job {number} to be {states}", timeout)
        return self.job(number)

    def _write_key(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))

    def _write_configuration(self) -> None:
        controller_port, *node_ports = free_ports(1 + len(NODES))
        nodes = (
            f"NodeName={node} NodeHostname={HOST} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} RealMemory=1000"
            for node, port in zip(NODES, node_ports, strict=True)
        )
        text = CONFIGURATION.format(
            host=HOST,
            controller_port=controller_port,
            user=getpass.getuser(),
            folder=self.folder,
            kill_wait=self.kill_wait,
            nodes="\n".join(nodes),
        )
        (self.folder / "slurm.conf").write_text(text)
        epilog = self.folder / "epilog"
        epilog.write_text(EPILOG.format(python=sys.executable, folder=self.folder))
        epilog.chmod(0o755)

    def _start_daemons(self) -> None:
        paths = {name: f"{self.folder}/munge.{name}" for name in ("socket", "key", "pid", "log", "seed")}
        # With --force, munged only warns about folders that others can write to, such as parents of a temporary one.
        self._start(
            "munge",
            "munged",
            "--foreground",
            "--force",
            "--num-threads=1",
            f"--socket={paths['socket']}",
            f"--key-file={paths['key']}",
            f"--pid-file={paths['pid']}",
            f"--log-file={paths['log']}",
            f"--seed-file={paths['seed']}",
        )
        wait_until(Path(paths["socket"]).exists, "munged")
        self._start("controller", "slurmctld", "-D")
        for node in NODES:
            self._start(node, "slurmd", "-D", "-N", node)
        wait_until(self._idle, f"the nodes to be idle; see {self.folder}/*.out")
        # Runs first, because it is pushed last: jobs end while the daemons still run.
        self._running.callback(self._cancel_all)

    def _start(self, name: str, *command: str) -> None:
        self._running.enter_context(daemon(command, self.env, self.folder / f"{name}.out"))

    def _idle(self) -> bool:
        return self.run("sinfo", "--noheader", "--Node", "--format=%T").stdout.split() == ["idle"] * len(NODES)

    def _cancel_all(self) -> None:
        self.run("scancel", f"--user={getpass.getuser()}")
        wait_until(self._idle, "the canceled jobs to end", timeout=self.kill_wait + 500)


@contextmanager
def daemon(command: tuple[str, ...], env: dict[str, str], output: Path) -> Iterator[None]:
    """Keep a program running, in its own session so that a Ctrl-C for the tests does not reach it."""
    with output.open("w") as out:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 500) -> None:
    """Wait until `condition()`, or raise `TimeoutError`."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.1)


def free_ports(number: int) -> list[int]:
    """Return different unused ports."""
    with ExitStack() as sockets:
        open_sockets = [sockets.enter_context(socket.socket()) for _ in range(number)]
        for port in open_sockets:
            port.bind(("127.0.0.1", 0))
        return [port.getsockname()[1] for port in open_sockets]
