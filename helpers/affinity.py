"""Which core a worker's threads run on.

Only ever an optimization: where the system does not let a process choose (no Linux, a sandbox, cores that were taken
away meanwhile), nothing is chosen.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator


def pin_workers(worker: int, workers: int) -> None:
    """Give each of this machine's `workers` one core, where there are exactly as many cores as workers.

    With more cores than that, other programs may be meant to use the rest, and the kernel knows better. To be
    called before a worker starts threads, which inherit the choice.
    """
    with contextlib.suppress(AttributeError, OSError):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == workers:
            os.sched_setaffinity(0, {cores[worker]})


@contextlib.contextmanager
def pin_to_current_core() -> Iterator[None]:
    """Keep this process on the core it runs on now, all its threads together.

    For threads that take turns: on one core they find each other's data in its caches, and neither has to wake
    another core up. The choice is the kernel's, made anew each time, so that processes which know nothing of each
    other do not settle on the same core. Afterwards every thread may run where it might before; those started
    meanwhile, where this one may.
    """
    before: dict[int, set[int]] = {}
    with contextlib.suppress(AttributeError, OSError):
        core = {ctypes.CDLL(None).sched_getcpu()}
        before = {thread: os.sched_getaffinity(thread) for thread in _threads()}
        _confine(dict.fromkeys(before, core))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if before:
                here = before[os.getpid()]
                _confine({thread: before.get(thread, here) for thread in _threads()})


def _threads() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/task")]


def _confine(cores: dict[int, set[int]]) -> None:
    for thread, allowed in cores.items():
        with contextlib.suppress(OSError):  # it ended meanwhile
            os.sched_setaffinity(thread, allowed)
