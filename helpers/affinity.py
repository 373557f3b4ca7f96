"""Which core a worker's threads run on."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator


def share_out_cores(worker: int, workers: int) -> None:
    """Give each of this machine's `workers` one core for good, where there are exactly as many cores as workers.

    With more cores than that, other programs may be meant to use the rest, and the kernel knows better.
    """
    if hasattr(os, "sched_setaffinity") and len(cores := sorted(os.sched_getaffinity(0))) == workers:
        os.sched_setaffinity(0, {cores[worker]})


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on the core it runs on now, all its threads together (on Linux; elsewhere do nothing).

    For threads that take turns: on one core they find each other's data in its caches, and neither has to wake
    another core up. The choice is the kernel's, made anew each time, so that processes which know nothing of each
    other do not settle on the same core.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    _confine({ctypes.CDLL(None).sched_getcpu()})
    try:
        yield
    finally:
        _confine(allowed)


def _confine(cores: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(int(thread), cores)
