"""Try an environment in a child process first: simulators and window systems can crash their process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 60.0  # after this time, the environment counts as working
CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP)
# A new interpreter, because renderers and MPI do not survive a fork. Exceptions are ignored: they are raised again
# in the process that uses the environment.
PROGRAM = """
import json, os, resource, sys
sys.path, modules, *arguments = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    from milozero.helpers.import_path import search_repository_last
    search_repository_last()
    for module in modules:
        __import__(module)
    from milozero.environments.registry import try_out
    try_out(*arguments)
finally:
    os._exit(0)
"""


def find_crash(env_id: str, render_mode: str | None, kwargs: Mapping[str, Any]) -> str:
    """Return how making, resetting or rendering an environment crashes, e.g. ``SIGABRT``; empty if it does not."""
    module = env_id.rpartition(":")[0]
    modules = [module] if module in sys.modules else []  # only if the user named it
    arguments = json.dumps([sys.path, modules, env_id, render_mode, dict(kwargs)])
    try:
        done = subprocess.run([sys.executable, "-c", PROGRAM, arguments], capture_output=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode >= 0:
        return f"exit code {done.returncode}" if done.returncode else ""
    return signal.Signals(-done.returncode).name if -done.returncode in CRASHES else ""
