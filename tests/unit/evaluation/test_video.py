"""Videos of the frames that environments return, and on full disks."""

import errno

import imageio.v2
import numpy as np
import pytest
import torch

from milozero.evaluation.video import read_fps, to_frame, write_video
from milozero.helpers.errors import RunError
from tests.support.odd_envs import GOOD_PICTURES, PICTURES

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


@pytest.mark.parametrize("name", GOOD_PICTURES)
def test_valid_frames_are_recorded(tmp_path, name):
    with write_video(tmp_path / "a.mp4", fps=30) as add:
        for step in range(3):
            add(PICTURES[name](step))
    assert len(imageio.v2.mimread(tmp_path / "a.mp4")) == 3


def test_gray_is_repeated_and_alpha_is_dropped():
    gray = FRAMES[0, :, :, 0]
    for picture in (gray, gray[:, :, None]):
        np.testing.assert_array_equal(to_frame(picture), np.stack([gray] * 3, axis=2))
    with_alpha = np.concatenate([FRAMES[0], FRAMES[0, :, :, :1]], axis=2)
    np.testing.assert_array_equal(to_frame(with_alpha), FRAMES[0])
    np.testing.assert_array_equal(to_frame(FRAMES[0]), FRAMES[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("None", "None; it must return a uint8 array of shape .height, width, 3.$"),
        ("list", "list .*; it must return a uint8 array of shape .height, width, 3.$"),
        ("frames", "list .*; it must return a uint8 array"),
        ("text", "str '@..#'; it must return a uint8 array"),
        ("channels first", r"of shape \(3, 40, 60\) and type uint8, channels first; .*moveaxis\(frame, 0, -1\)"),
        ("float", r"type float64; .*, e.g. \(255 \* frame\).astype\(np.uint8\)"),
        ("int", r"type int64; .*, e.g. \(frame\).astype\(np.uint8\)"),
        ("empty", r"of shape \(0, 60, 3\)"),
        ("grows", "frames of 40 × 60 and 42 × 60; all frames of an episode must have the same size"),
    ],
)
def test_invalid_frame_is_a_one_line_error_and_leaves_no_video(tmp_path, name, message):
    def record():
        with write_video(tmp_path / "a.mp4", fps=30) as add:
            for step in range(2):
                add(PICTURES[name](step))

    with pytest.raises(RunError, match=rf"^render\(\) returned.*{message}") as error:
        record()
    assert str(error.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_tensor_with_a_gradient_is_no_picture():
    with pytest.raises(RunError, match=r"returned Tensor of shape \(4, 4, 3\) .*; it must return a uint8 array"):
        to_frame(torch.zeros((4, 4, 3), requires_grad=True))


@pytest.mark.parametrize(
    ("declared", "fps"),
    [
        *((10, 10), (0.5, 1), (np.int64(50), 50), (np.float32(12.5), 12)),
        *((None, 30), (0, 30), (-3, 30), ("fast", 30), (np.inf, 30), (np.nan, 30)),
    ],
)
def test_invalid_frame_rate_falls_back_to_the_default(declared, fps):
    found = read_fps({"render_fps": declared})
    assert (found, type(found)) == (fps, int)
    assert read_fps({}) == 30


@pytest.mark.parametrize(
    ("metadata", "dt", "fps"),
    [
        *(
            ({}, 0.008, 125),
            ({}, np.float64(0.05), 20),
            ({"render_fps": None}, 0.02, 50),
            ({"render_fps": 10}, 0.02, 10),
        ),
        *(({}, 0, 30), ({}, -0.1, 30), ({}, np.nan, 30), ({}, np.inf, 30), ({}, 1e-320, 30), ({}, "fast", 30)),
    ],
)
def test_frame_rate_follows_the_step_if_none_is_declared(metadata, dt, fps):
    assert read_fps(metadata, dt) == fps
