"""Check that this Python has MiloZero's packages. Imports only the standard library."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from pathlib import Path

MIN_VERSION = (3, 11)
PACKAGES = ("torch", "numpy", "gymnasium", "yaml")  # nothing works without them


def require_packages() -> None:
    """If this Python is too old or lacks packages, print how to activate the environment, and exit with code 2."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if sys.version_info < MIN_VERSION:
        problem = f"is Python {sys.version_info[0]}.{sys.version_info[1]}; MiloZero needs 3.11 or newer"
    elif missing:
        problem = f"lacks {', '.join(missing)}"
    else:
        return
    root = Path(__file__).resolve().parent.parent
    setup, script = (shlex.quote(os.path.relpath(root / name)) for name in ("setup_env.sh", ".venv/bin/activate"))
    create = "" if (root / ".venv/bin/activate").exists() else f"run {os.path.join('.', setup)}, then "
    print(f"error: {sys.executable} {problem}; {create}activate the environment: source {script}", file=sys.stderr)
    sys.exit(2)
