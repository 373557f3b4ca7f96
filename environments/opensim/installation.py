"""Find OpenSim and osim-rl's models."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from milozero.helpers.errors import UserError

INSTALL = "make setup, or pip install --no-deps -r requirements-opensim.txt"


def find_problem() -> str:
    """Return what is not installed and how to install it; empty if nothing is missing."""
    installed = all(importlib.util.find_spec(name) is not None for name in ("opensim", "osim"))
    return "" if installed else f"OpenSim or its models are not installed ({INSTALL})"


def find_model(name: str) -> str:
    """Return the path of a model file of osim-rl, whose code is never imported.

    Raises:
        UserError: if OpenSim or the model is not installed.
    """
    if problem := find_problem():
        raise UserError(problem)
    spec = importlib.util.find_spec("osim")
    assert spec is not None
    for folder in spec.submodule_search_locations or ():
        path = os.path.join(folder, "models", f"{name}.osim")
        if os.path.exists(path):
            return path
    raise UserError(f"osim-rl's model {name}.osim is missing ({INSTALL})")


def import_opensim() -> Any:
    """Import OpenSim so that it computes identical results on every processor with AVX2.

    OpenSim's OpenBLAS selects its kernels by processor. Their results differ in the last digit, and after 30 control
    steps in more. A fixed kernel makes episodes bit-exact on all nodes of a cluster.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if "OPENBLAS_CORETYPE" in os.environ or not cpuinfo.exists() or " avx2 " not in cpuinfo.read_text():
        import opensim
    else:
        os.environ["OPENBLAS_CORETYPE"] = "Haswell"  # OpenBLAS reads it when the library is loaded
        try:
            import opensim
        finally:
            del os.environ["OPENBLAS_CORETYPE"]
    return opensim
