"""Fakes with known behavior."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from milozero.environments.actions import make_converter
from milozero.helpers.comm import Comm
from milozero.tracking.appended import AppendedFile


class ThreadComm(Comm):
    """A communicator of workers that are threads of this process."""

    def __init__(self, rank: int, size: int, shared: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size, self.local_rank = rank, size, rank
        self._shared, self._barrier = shared, barrier

    def allgather(self, value: Any) -> list[Any]:
        self._shared[self.rank] = value
        self._barrier.wait()
        values = list(self._shared)
        self._barrier.wait()
        return values

    def sum_(self, array: np.ndarray) -> np.ndarray:
        array[...] = sum(self.allgather(array.copy()))
        return array

    def gather(self, value: Any) -> list[Any]:
        values = self.allgather(value)
        return values if self.rank == 0 else []

    def broadcast(self, value: Any) -> Any:
        return self.allgather(value)[0]

    def barrier(self) -> None:
        self._barrier.wait()


def on_workers(size: int, work: Callable[[Comm], Any]) -> list[Any]:
    """Run `work` on `size` workers; return their results."""
    shared, barrier, results = [None] * size, threading.Barrier(size, timeout=500), [None] * size

    def run(rank: int) -> None:
        results[rank] = work(ThreadComm(rank, size, shared, barrier))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class CountingEnv:
    """A vector of environments: environment i observes its step count, and its episodes have ``lengths[i]`` steps.

    It autoresets on the next step, like gymnasium and EnvPool. Even environments terminate, odd ones are truncated.
    The reward is 1 per step.
    """

    single_threaded = False
    time_limit = max_steps = None

    def __init__(self, lengths: list[int], action_size: int = 1) -> None:
        self.num_envs = len(lengths)
        self.lengths = np.array(lengths)
        self.observation_size = 1
        self.action_space = spaces.Box(-1.0, 1.0, (action_size,))
        self.converter = make_converter(self.action_space)
        self.action_shape, self.action_dtype = (action_size,), np.float32
        self.count = np.zeros(self.num_envs, int)
        self.done = np.zeros(self.num_envs, bool)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        self.seeds = list(seeds)
        self.count[:], self.done[:] = 0, False
        return self.count[:, None].astype(np.float32)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        rewards = np.where(self.done, 0.0, 1.0)
        self.count = np.where(self.done, 0, self.count + 1)
        self.done = ~self.done & (self.count == self.lengths)
        even = np.arange(self.num_envs) % 2 == 0
        return self.count[:, None].astype(np.float32), rewards, self.done & even, self.done & ~even


class RandomAgent:
    """Returns its noise as actions."""

    def __init__(self, action_size: int = 1) -> None:
        self.action_size = action_size

    def sample_noise(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        return rng.standard_normal((steps, self.action_size), np.float32)

    def sample_actions(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return noise


class FullDisk:
    """A file on a disk with `room` for a number of bytes."""

    def __init__(self, file: Any) -> None:
        self.file, self.name, self.room = file, file.name, 10**6

    @classmethod
    def under(cls, appended: AppendedFile) -> FullDisk:
        """Replace the file of a tracker by one on such a disk."""
        appended._file = disk = cls(appended._file)  # type: ignore[assignment]
        return disk

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count: int = self.file.write(data[: self.room])
        self.room -= count
        return count

    def fileno(self) -> int:
        fileno: int = self.file.fileno()
        return fileno

    def close(self) -> None:
        self.file.close()


def events_in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the events (step, value) by tag, from TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def tabs_in(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the tabs HParams and Text show: hyper-parameter → value, and title → text."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    reader = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    reader.Reload()
    content = reader.PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
    hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    texts = {tag: reader.Tensors(tag) for tag in reader.PluginTagToContent("text")}
    assert all(len(events) == 1 for events in texts.values())
    return (
        {name: getattr(value, value.WhichOneof("kind")) for name, value in hparams.items()},
        {tag: event.tensor_proto.string_val[0].decode() for tag, (event,) in texts.items()},
    )


def check_events(logs: Path) -> list[float]:
    """Check that the events hold exactly the numbers of progress.csv."""
    from milozero.agents.registry import get_metrics
    from milozero.tracking.csv import read_progress

    columns = read_progress(logs / "progress.csv")
    events = events_in(logs / "tensorboard")
    for name, metric in get_metrics("ppo").items():
        rows = zip(columns["timesteps"], columns[name].astype(np.float32), strict=True)
        expected = [(int(step), value) for step, value in rows if not np.isnan(value)]
        assert events.pop(f"{metric.group}/{name}", []) == expected, name
    assert not events
    return columns["iteration"].tolist()
