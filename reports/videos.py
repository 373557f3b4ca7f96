"""The newest videos of a report's runs, to stand within the page."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from milozero.reports.runs import Run
from milozero.reports.scores import Study

MAX_VIDEOS = 6
MAX_TOTAL_BYTES = 25 * 2**20  # bytes of all of them together


@dataclass(frozen=True)
class Video:
    """One episode."""

    run: Run
    method: str
    path: Path  # …/<run>/<checkpoint>/episode_000.mp4
    written: float  # seconds since the epoch
    size: int  # bytes

    @property
    def data(self) -> str:
        """The file, as text for a ``data:`` address."""
        return base64.b64encode(self.path.read_bytes()).decode()

    @property
    def episode_return(self) -> float | None:
        """The return of the episode, where the evaluation has kept it."""
        number = re.search(r"[0-9]+$", self.path.stem)
        try:
            results = json.loads((self.path.parent / "results.json").read_text())
            return float(results["episodes"][int(number[0] if number else 0)]["return"])
        except (OSError, ValueError, TypeError, KeyError, IndexError):
            return None


def found(data: Path, study: Study) -> list[Video]:
    """Return the videos of the runs, newest first."""
    return sorted(_found(data, study), key=lambda video: (-video.written, str(video.path)))


def _found(data: Path, study: Study) -> Iterator[Video]:
    for method in study.methods:
        for run in method.runs:
            folder = data / "evaluations" / run.name
            for path in folder.glob("*/*.mp4") if folder.is_dir() else ():
                if os.access(path, os.R_OK):  # it may have gone meanwhile
                    about = path.stat()
                    yield Video(run, method.label, path, about.st_mtime, about.st_size)


def chosen(videos: Sequence[Video]) -> list[Video]:
    """Return which of the videos, newest first, a page shows: of each environment and method one, then others."""
    seen: set[tuple[str, str]] = set()
    first = []
    for video in videos:
        if (case := (video.run.env_id, video.method)) not in seen:
            seen.add(case)
            first.append(video)
    shown: list[Video] = []
    for video in first + [video for video in videos if video not in first]:
        if len(shown) < MAX_VIDEOS and sum(v.size for v in shown) + video.size <= MAX_TOTAL_BYTES:
            shown.append(video)
    return shown
