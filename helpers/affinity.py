"""Pin workers and their threads to cores.

Pinning is only an optimization: these functions do nothing if the system does not allow it (not Linux, a sandbox).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator


def pin_workers(worker: int, workers: int) -> int:
    """Pin this worker, of local rank `worker`, to its own core if this machine has exactly one core per worker.

    With more cores, the kernel schedules better. Call this before any thread starts: threads inherit the affinity.
    Returns the number of cores that the workers of this machine may use.
    """
    cores: list[int] = []
    with contextlib.suppress(AttributeError, OSError):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == workers:
            os.sched_setaffinity(0, {cores[worker]})
    return len(cores) or workers


@contextlib.contextmanager
def pin_to_current_core() -> Iterator[None]:
    """Pin all threads of this process to the core it currently runs on.

    Threads that take turns share this core's caches and never have to wake another core. The kernel picks the core
    on every call, so independent processes do not settle on the same one. On exit, each thread gets its previous
    affinity back; threads started meanwhile get that of the main thread.
    """
    before: dict[int, set[int]] = {}
    with contextlib.suppress(AttributeError, OSError):
        core = {ctypes.CDLL(None).sched_getcpu()}
        before = {thread: os.sched_getaffinity(thread) for thread in _list_threads()}
        _set_affinities(dict.fromkeys(before, core))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if before:
                main = before[os.getpid()]
                _set_affinities({thread: before.get(thread, main) for thread in _list_threads()})


def _list_threads() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/task")]


def _set_affinities(cores: dict[int, set[int]]) -> None:
    for thread, allowed in cores.items():
        with contextlib.suppress(OSError):  # the thread has ended
            os.sched_setaffinity(thread, allowed)
