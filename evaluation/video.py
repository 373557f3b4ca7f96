"""Render and record episodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from milozero.helpers.errors import UserError


def choose_renderer() -> None:
    """Make MuJoCo and pygame render off-screen if there is no display. Call this before they are imported.

    Variables that the user has set are kept.
    """
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


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


class VideoWriter:
    """Writes frames to an mp4 file, at `fps` frames per second; after an exception, removes it."""

    def __init__(self, path: Path, fps: int) -> None:
        import imageio.v2

        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp.mp4")
        # H.264 requires even sizes; macro_block_size=2 pads frames to even sizes.
        self._writer: Any = imageio.v2.get_writer(self._temporary, fps=fps, macro_block_size=2, codec="libx264")

    def add(self, frame: Any) -> None:
        """Add a frame (H, W, 3) uint8."""
        self._writer.append_data(frame)

    def __enter__(self) -> VideoWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish the file, or remove it after an exception."""
        self._writer.close()
        if kind is None:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink(missing_ok=True)
