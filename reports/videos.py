"""Find the newest videos of a report's runs, to embed them in the page."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from milozero.helpers.files import read_json
from milozero.reports.runs import Run
from milozero.reports.scores import Study

MAX_VIDEOS = 6
MAX_TOTAL_BYTES = 25 * 2**20


@dataclass(frozen=True)
class Video:
    """A video of one episode."""

    run: Run
    method: str
    path: Path  # …/<run>/<checkpoint>/episode_000.mp4
    mtime: float  # seconds since the epoch
    size: int  # bytes

    @property
    def data(self) -> str:
        """The file in base64, for a ``data:`` URL."""
        return base64.b64encode(self.path.read_bytes()).decode()

    @property
    def source(self) -> str:
        """When it was recorded: in which iteration of training, or in which evaluation."""
        name = self.path.parent.name
        in_training = self.path.parent.parent.name == "videos"
        return name.replace("iter_", "iteration ") if in_training else f"evaluation {name}"

    @property
    def episode(self) -> int:
        """The index of the episode in its evaluation."""
        number = re.search(r"[0-9]+$", self.path.stem)
        return int(number[0]) if number else 0

    @property
    def episode_return(self) -> float | None:
        """The return of the episode, if ``results.json`` has it."""
        try:
            episodes = read_json(self.path.parent / "results.json")["episodes"]
            returns = {each.get("index", place): float(each["return"]) for place, each in enumerate(episodes)}
            return returns[self.episode]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return None


def find_videos(data: Path, study: Study) -> list[Video]:
    """Return the videos of the runs, newest first."""
    videos = []
    for method in study.methods:
        for run in method.runs:
            folders = (data / "evaluations" / run.name, data / "logs" / run.name / "videos")
            for path in chain(*(each.glob("*/episode_*.mp4") for each in folders)):  # not those being recorded
                if os.access(path, os.R_OK):  # it may have been deleted meanwhile
                    stat = path.stat()
                    videos.append(Video(run, method.label, path, stat.st_mtime, stat.st_size))
    return sorted(videos, key=lambda video: (-video.mtime, str(video.path)))


def select_videos(videos: Sequence[Video]) -> list[Video]:
    """Return the videos to show, given all, newest first: one per environment and method, then others."""
    first: dict[tuple[str, str], Video] = {}
    for video in videos:
        first.setdefault((video.run.env_id, video.method), video)
    selected: list[Video] = []
    for video in [*first.values(), *(video for video in videos if video not in first.values())]:
        if len(selected) < MAX_VIDEOS and sum(v.size for v in selected) + video.size <= MAX_TOTAL_BYTES:
            selected.append(video)
    return selected
