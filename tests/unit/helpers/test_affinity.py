"""Pinning threads and workers to cores."""

import contextlib
import os
import threading

import pytest

from milozero.helpers.affinity import pin_to_current_core, pin_workers

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux supports pinning")


def test_all_threads_share_one_core_and_are_released_afterwards():
    allowed, stop = os.sched_getaffinity(0), threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with contextlib.suppress(RuntimeError), pin_to_current_core():
        inside = {tuple(os.sched_getaffinity(thread_id)) for thread_id in (0, thread.native_id)}
        raise RuntimeError("a simulator broke")
    after = [os.sched_getaffinity(thread_id) for thread_id in (0, thread.native_id)]
    stop.set()
    thread.join()
    assert len(inside) == 1
    assert len(inside.pop()) == 1
    assert after == [allowed, allowed]


def test_workers_are_pinned_only_if_there_is_one_core_per_worker(monkeypatch):
    chosen = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 2})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: chosen.append(cores))
    assert pin_workers(0, 1) == 2
    assert pin_workers(2, 3) == 2
    assert chosen == []
    assert pin_workers(1, 2) == 2
    assert chosen == [{4}]
