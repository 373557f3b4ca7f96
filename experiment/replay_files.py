"""Replay buffers on disk: files of consecutive steps, which checkpoints list with their checksums.

A file never changes, so a checkpoint costs little more than the steps since the previous one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from milozero.agents.replay_buffer import ReplayBuffer, Steps
from milozero.helpers.errors import UserError
from milozero.helpers.files import open_regular, write_atomically

Segment = dict[str, Any]  # file name, its first row, the row after its last one, and the CRC-32 of its bytes
FOLDER = "replay"  # in the folder of the checkpoints
KEYS: Mapping[str, type] = {"file": str, "first": int, "end": int, "crc": int}
MAX_FILES = 64  # that hold one full buffer, roughly


class ReplayFiles:
    """The files of one worker's replay buffer.

    Args:
        checkpoints: the folder of the run's checkpoints.
        rank: of the worker.
        size: number of workers.
        segments: files of the checkpoint that the run resumes from.
        enabled: whether the buffer is saved.
    """

    def __init__(
        self, checkpoints: Path, rank: int, size: int, segments: Sequence[Segment] = (), *, enabled: bool = True
    ) -> None:
        self.folder = checkpoints / FOLDER
        self.rank = rank
        self.size = size
        self.enabled = enabled
        self.segments = list(segments)  # that hold the buffer as of the last call of `save`
        self._last = self.segments  # those of the checkpoint ``last``
        self._numbered = deque([self.segments], maxlen=2)  # those of the newest checkpoints with a number

    def save(self, buffer: ReplayBuffer) -> list[Segment]:
        """Write the steps since the last call; return the files that hold the buffer.

        Raises:
            OSError: if the file cannot be written; the next call tries again.
        """
        if not self.enabled:
            return []
        segments = [segment for segment in self.segments if segment["end"] > buffer.start]
        if not all((self.folder / segment["file"]).exists() for segment in segments):
            segments = []  # the folder was removed during the run
        first = segments[-1]["end"] if segments else buffer.start
        if first < buffer.end:
            if segments and first - segments[-1]["first"] < buffer.rows / MAX_FILES:
                first = max(segments.pop()["first"], buffer.start)  # replace a small file by a larger one
            arrays = to_arrays(buffer.rows_between(first, buffer.end))
            crc = checksum(arrays)
            name = f"rank{self.rank}_{first}_{buffer.end}_{crc:08x}.bin"
            write_atomically(self.folder / name, lambda path: write_arrays(path, arrays))
            segments.append({"file": name, "first": first, "end": buffer.end, "crc": crc})
        self.segments = segments
        return [dict(segment) for segment in segments]

    def rewrite(self) -> None:
        """Let the next call of `save` write the whole buffer, because steps in it have changed."""
        self.segments = []

    def checkpoint_written(self, *, only_last: bool) -> None:
        """Remove the files that neither ``last`` nor the two newest checkpoints with a number need.

        Call this when a checkpoint with the files of the last `save` has been written.
        """
        self._last = self.segments
        if not only_last:
            self._numbered.append(self.segments)
        used = {segment["file"] for segments in (self._last, *self._numbered) for segment in segments}
        for file in self.folder.glob("*rank*"):
            if file.name not in used and self._is_responsible(file.name):
                with contextlib.suppress(OSError):  # the next call tries again
                    file.unlink()

    def _is_responsible(self, name: str) -> bool:
        """Return whether a file, or a temporary one of a killed run, belongs to this or to no worker."""
        match = re.match(r"\.?rank(\d+)_", name)
        return match is not None and int(match[1]) % self.size == self.rank


def load(buffer: ReplayBuffer, checkpoints: Path, shards: Sequence[Sequence[Segment]], *, exact: bool) -> None:
    """Fill an empty buffer with the steps in one or several workers' files.

    Args:
        buffer: of this worker.
        checkpoints: the folder of the run's checkpoints.
        shards: the files of each worker.
        exact: the buffer becomes as it was; otherwise, its steps will not be continued.

    Raises:
        UserError: if a file is missing or damaged, or does not fit the buffer.
    """
    for segments in shards:
        if exact and segments:
            buffer.first = buffer.end = segments[0]["first"]
        for segment in segments:
            buffer.add(_read(buffer, checkpoints / FOLDER, segment))
        if not exact:
            buffer.break_episodes()


def check_segments(state: Any) -> list[Segment]:
    """Return the files that a checkpoint lists.

    Raises:
        ValueError: if it is not a list of consecutive files.
    """
    if not isinstance(state, list):
        raise ValueError("the list of replay files is missing")
    for index, segment in enumerate(state):
        if not isinstance(segment, dict) or {k: type(v) for k, v in segment.items()} != KEYS:
            raise ValueError("the list of replay files is invalid")
        follows = not index or segment["first"] == state[index - 1]["end"]
        if not re.fullmatch(r"rank\d+_\d+_\d+_[0-9a-f]{8}\.bin", segment["file"]) or not follows:
            raise ValueError("the list of replay files is invalid")
        if not 0 <= segment["first"] < segment["end"] < 2**62:
            raise ValueError("the rows of the replay files are impossible")
    return state


def shards_of(rank: int, size: int, workers: int) -> list[int]:
    """Return which of the former `workers` provide the steps of a worker in a run with `size` workers.

    If there are more workers than before, several get the same steps.
    """
    return [other for other in range(workers) if other % size == rank] or [rank % workers]


def to_arrays(steps: Steps) -> list[np.ndarray]:
    """Return the arrays of a file in their order; flags take one byte per step."""
    flags = steps.terminated | steps.done.astype(np.uint8) << 1 | steps.mask.astype(np.uint8) << 2
    return [np.ascontiguousarray(array) for array in (steps.obs, steps.actions, steps.rewards, flags)]


def checksum(arrays: Sequence[np.ndarray]) -> int:
    """Return the CRC-32 of the bytes of arrays one after the other."""
    return functools.reduce(lambda crc, array: zlib.crc32(array.data, crc), arrays, 0)


def write_arrays(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """Write the bytes of arrays one after the other."""
    with path.open("wb") as file:
        for array in arrays:
            file.write(array.data)


def _read(buffer: ReplayBuffer, folder: Path, segment: Segment) -> Steps:
    """Return the steps of a file; raises a UserError if it is missing or damaged."""
    path = folder / segment["file"]
    advice = f"to resume with an empty replay buffer, remove the folder {folder}"
    try:
        with open_regular(path) as file:
            obs, actions, rewards, flags = _read_arrays(file, buffer, segment)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; {advice}") from None
    except ValueError:
        raise UserError(f"{path} is damaged, or belongs to another run; {advice}") from None
    terminated, done, mask = (flags >> bit & 1 == 1 for bit in range(3))
    return Steps(obs, actions, rewards, terminated, done, mask)


def _read_arrays(file: BinaryIO, buffer: ReplayBuffer, segment: Segment) -> Iterator[np.ndarray]:
    """Return the arrays of a file; raises a ValueError unless they are those that were written."""
    rows, like = segment["end"] - segment["first"], buffer.allocate()
    shapes = [(rows + 1, *like.obs.shape[1:]), (rows, *like.actions.shape[1:]), (rows, buffer.num_envs)]
    shapes.append((rows, buffer.num_envs))
    kinds = [np.dtype(kind) for kind in (np.float32, np.float32, np.float32, np.uint8)]
    sizes = [int(np.prod(shape, dtype=object)) for shape in shapes]
    expected = sum(size * kind.itemsize for size, kind in zip(sizes, kinds, strict=True))
    if os.fstat(file.fileno()).st_size != expected:
        raise ValueError("another size than was written")
    arrays = [
        np.fromfile(file, kind, size).reshape(shape) for kind, size, shape in zip(kinds, sizes, shapes, strict=True)
    ]
    if checksum(arrays) != segment["crc"]:
        raise ValueError("other bytes than were written")
    return iter(arrays)
