"""Render and record episodes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from milozero.environments.standard_env import NUMBERS, describe
from milozero.helpers.errors import RunError, UserError

DEFAULT_FPS = 30
CHANNELS = (1, 3, 4)  # gray, RGB, RGBA
EXPECTED_FRAME = "it must return a uint8 array of shape (height, width, 3)"


def check_renderer() -> None:
    """Check that the renderer that MUJOCO_GL names is available.

    Raises:
        UserError: if its libraries are missing; the message names the packages to install.
    """
    try:
        import mujoco  # noqa: F401  # loads the renderer that MUJOCO_GL names
    except Exception as error:  # PyOpenGL and MuJoCo raise various types
        raise make_render_error(error) from None


def make_render_error(error: Exception) -> UserError:
    """Return the error to raise if rendering failed with `error`."""
    reason = " ".join(str(error).split())[:120]
    if type(error).__name__ == "DependencyNotInstalled":  # gymnasium's message names the package to install
        return UserError(f"cannot render: {reason}; everything except videos works without it")
    return UserError(
        f"cannot render ({reason}); install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri, or libosmesa6, and try "
        "MUJOCO_GL=egl or MUJOCO_GL=osmesa; everything except videos works without them"
    )


def read_fps(metadata: Mapping[str, Any], dt: Any = None) -> int:
    """Return the frames per second at which a video shows the environment's own time.

    Args:
        metadata: of the environment; `render_fps` is used if it is valid.
        dt: duration of a step, s, as MuJoCo's environments have it; used otherwise. Without both, the result is 30.
    """
    declared = _to_float(metadata.get("render_fps"))
    fps = declared if 0 < declared < math.inf else 1 / (_to_float(dt) or math.inf)
    return max(round(fps), 1) if 0 < fps < math.inf else DEFAULT_FPS


def _to_float(value: Any) -> float:
    return float(value) if isinstance(value, NUMBERS) else 0.0


def to_frame(picture: Any) -> np.ndarray:
    """Return what ``render()`` returned as a frame (H, W, 3) of uint8. It may be gray or have an alpha channel.

    Raises:
        RunError: if it is not an image; the message says what to return instead.
    """
    if not hasattr(picture, "shape") or not hasattr(picture, "dtype"):
        raise RunError(f"render() returned {describe(picture)}; {EXPECTED_FRAME}")
    try:
        frame = np.asarray(picture)
    except Exception:  # e.g. a tensor that has a gradient
        raise RunError(f"render() returned {describe(picture)}; {EXPECTED_FRAME}") from None
    if frame.dtype != np.uint8:
        scale = "255 * frame" if frame.dtype.kind == "f" else "frame"
        raise RunError(f"render() returned {describe(picture)}; {EXPECTED_FRAME}, e.g. ({scale}).astype(np.uint8)")
    if frame.ndim == 3 and frame.shape[0] in CHANNELS and frame.shape[2] not in CHANNELS:
        fix = "np.moveaxis(frame, 0, -1)"
        raise RunError(f"render() returned {describe(picture)}, channels first; {EXPECTED_FRAME}, e.g. {fix}")
    frame = frame[:, :, None] if frame.ndim == 2 else frame
    if frame.ndim != 3 or frame.shape[2] not in CHANNELS or 0 in frame.shape:
        raise RunError(f"render() returned {describe(picture)}; {EXPECTED_FRAME}")
    return np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame[:, :, :3]


@contextlib.contextmanager
def write_video(path: Path, fps: int) -> Iterator[Callable[[Any], None]]:
    """Yield a function that adds what ``render()`` returned to an mp4 file; an exception discards the file.

    Raises:
        RunError: if the file cannot be written, or a frame is not an image or its size differs from the first.
    """
    import imageio.v2
    import imageio_ffmpeg

    failure = RunError(f"cannot write {path}: ffmpeg failed; is the disk full or read-only?")

    size: tuple[int, ...] = ()

    def add(picture: Any) -> None:
        nonlocal size
        frame = to_frame(picture)
        size = size or frame.shape
        if frame.shape != size:
            sizes = " and ".join(f"{height} × {width}" for height, width, _ in (size, frame.shape))
            raise RunError(f"render() returned frames of {sizes}; all frames of an episode must have the same size")
        try:
            writer.append_data(frame)
        except OSError:
            raise failure from None

    temporary = path.with_name(f".{path.name}.tmp.mp4")
    try:
        # H.264 requires even sizes; macro_block_size=2 pads frames to even sizes.
        writer: Any = imageio.v2.get_writer(
            temporary, fps=fps, macro_block_size=2, codec="libx264", ffmpeg_log_level="quiet"
        )
        with contextlib.closing(writer):  # its own context stays open after an exception
            yield add
        try:
            imageio_ffmpeg.count_frames_and_secs(str(temporary))  # imageio does not report ffmpeg's exit code
        except RuntimeError:
            raise failure from None
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
