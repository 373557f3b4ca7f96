"""Videos on disks that are full."""

import errno

import imageio.v2
import numpy as np
import pytest

from milozero.evaluation.video import write_video
from milozero.helpers.errors import RunError

FRAMES = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3)).astype(np.uint8)


class Truncated:
    """Writes truncated files, as ffmpeg does on a full disk."""

    def __init__(self, path, **options):
        self.path = path

    def append_data(self, frame):
        self.path.write_bytes(b"the first part")

    def close(self):
        pass


class Broken(Truncated):
    def append_data(self, frame):
        raise OSError(errno.EPIPE, "Broken pipe\n\nFFMPEG COMMAND:\nffmpeg -y ...")


def test_video_has_all_frames_and_no_other_file_is_left(tmp_path):
    with write_video(tmp_path / "a.mp4", fps=30) as add:
        for frame in FRAMES:
            add(frame)
    assert len(imageio.v2.mimread(tmp_path / "a.mp4")) == len(FRAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("writer", [Truncated, Broken])
def test_incomplete_video_is_an_error_and_not_kept(tmp_path, monkeypatch, writer):
    monkeypatch.setattr(imageio.v2, "get_writer", writer)
    message = r"^cannot write .*a.mp4: ffmpeg failed; is the disk full or read-only\?$"
    with pytest.raises(RunError, match=message), write_video(tmp_path / "a.mp4", fps=30) as add:
        add(FRAMES[0])
    assert list(tmp_path.iterdir()) == []
