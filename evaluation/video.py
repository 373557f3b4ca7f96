"""Render and record episodes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from milozero.helpers.errors import RunError, UserError


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


@contextlib.contextmanager
def write_video(path: Path, fps: int) -> Iterator[Callable[[Any], None]]:
    """Yield a function that adds a frame (H, W, 3) uint8 to an mp4 file; an exception discards the file.

    Raises:
        RunError: if the file cannot be written.
    """
    import imageio.v2
    import imageio_ffmpeg

    failure = RunError(f"cannot write {path}: ffmpeg failed; is the disk full or read-only?")

    def add(frame: Any) -> None:
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
