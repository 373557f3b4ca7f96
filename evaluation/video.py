"""Episodes as pictures that move."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from milozero.helpers.errors import UserError


def choose_renderer() -> None:
    """Let MuJoCo and pygame draw without a display where there is none, before they are imported.

    What the user set for them stays.
    """
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def check_renderer() -> None:
    """See whether what MUJOCO_GL names is there.

    Raises:
        UserError: where its libraries are missing, naming what to install.
    """
    try:
        import mujoco  # noqa: F401  # loads the renderer that MUJOCO_GL names
    except Exception as error:  # PyOpenGL and MuJoCo raise what they like
        raise cannot_render(error) from None


def cannot_render(error: Exception) -> UserError:
    """Return what to tell the user where rendering failed with `error`."""
    reason = " ".join(str(error).split())[:120]
    if type(error).__name__ == "DependencyNotInstalled":  # gymnasium's, which says itself what to install
        return UserError(f"cannot render here: {reason}; everything but videos works without")
    return UserError(
        f"cannot render here ({reason}); install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri, or libosmesa6, and try "
        "MUJOCO_GL=egl or MUJOCO_GL=osmesa; everything but videos works without",
    )


class Video:
    """An mp4 file that frames are added to; an unfinished one is removed.

    Args:
        path: the mp4 file.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: int) -> None:
        import imageio.v2

        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp.mp4")
        # H.264 wants even sizes; "macro_block_size=2" pads to them
        self._writer: Any = imageio.v2.get_writer(self._temporary, fps=fps, macro_block_size=2, codec="libx264")

    def add(self, frame: Any) -> None:
        """Add one frame (H, W, 3) uint8."""
        self._writer.append_data(frame)

    def __enter__(self) -> Video:
        """Return the video itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish the file, or remove it after an error."""
        self._writer.close()
        if kind is None:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink(missing_ok=True)
