"""Renders a model as a stick figure from its right: bones, contact spheres, and muscles colored by activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from milozero.environments.opensim.simulator import Simulator

FRAME_WIDTH_PX, FRAME_HEIGHT_PX = 640, 480
MAP_SIZE_PX, MAP_SIZE_M = 150, 20

SKY_COLOR, GROUND_COLOR, TICK_COLOR = (245, 247, 250), (214, 205, 190), (150, 140, 120)
BONE_COLOR, LEFT_BONE_COLOR, FOOT_COLOR = (60, 70, 90), (140, 150, 170), (150, 150, 165)
TEXT_COLOR, TARGET_COLOR, MAP_COLOR = (40, 40, 40), (30, 140, 60), (255, 255, 255)
RESTING_COLOR, ACTIVE_COLOR = np.array([120, 150, 210]), np.array([220, 30, 30])
POSITION_COLOR = (220, 30, 30)


@dataclass(frozen=True)
class View:
    """The mapping from the x-y plane, m, to the pixels of a frame."""

    center: tuple[float, float]  # of the frame, m
    scale: float  # pixels per m

    def to_pixels(self, point: Any) -> tuple[float, float]:
        """Return the column and row of a point, whose first two elements are x and y."""
        return (
            FRAME_WIDTH_PX / 2 + (point[0] - self.center[0]) * self.scale,
            FRAME_HEIGHT_PX / 2 - (point[1] - self.center[1]) * self.scale,
        )


class StickFigure:
    """Draws the current state of a simulator, `width` m wide.

    `tips` maps bodies to the markers at the ends of their bones; the default is the body's center of mass.
    """

    def __init__(self, simulator: Simulator, width: float, tips: Mapping[str, str]) -> None:
        self._simulator = simulator
        self._scale = FRAME_WIDTH_PX / width  # pixels per m
        self._font = ImageFont.load_default(16)
        bones = _find_bones(simulator.model, tips)
        self._bones = sorted(bones, key=lambda bone: not _is_left(bone[0]))  # the left leg is drawn first, behind
        geometry = simulator.model.getContactGeometrySet()
        spheres = [simulator.sphere(geometry.get(i)) for i in range(geometry.getSize())]
        self._spheres = [sphere for sphere in spheres if sphere is not None]

    def draw(
        self,
        center: tuple[float, float],
        caption: str = "",
        targets: Sequence[tuple[float, float, float]] = (),
        top_view: tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]] | None = None,
    ) -> np.ndarray:
        """Return a frame (480, 640, 3) uint8.

        Args:
            center: x and y of the frame's center, m.
            caption: text in the corner.
            targets: circles: x, y and radius, m.
            top_view: path and targets of a map, x forward and y left, m; None for no map.
        """
        image = Image.new("RGB", (FRAME_WIDTH_PX, FRAME_HEIGHT_PX), SKY_COLOR)
        pen = ImageDraw.Draw(image)
        view = View(center, self._scale)
        self._draw_ground(pen, view)
        for get_position, radius in self._spheres:
            x, y, _ = get_position()
            _draw_circle(pen, view, x, y, radius, FOOT_COLOR)
        for start, end in self._bones:
            color = LEFT_BONE_COLOR if _is_left(start) else BONE_COLOR
            pen.line([view.to_pixels(self._locate(start)), view.to_pixels(self._locate(end))], fill=color, width=5)
        self._draw_muscles(pen, view)
        for x, y, radius in targets:
            _draw_circle(pen, view, x, y, radius, TARGET_COLOR)
        if top_view is not None:
            _draw_map(pen, *top_view)
        name = self._simulator.model.getName()
        pen.text((10, 8), f"{name}   {caption}", fill=TEXT_COLOR, font=self._font)
        return np.asarray(image).copy()

    def _draw_ground(self, pen: ImageDraw.ImageDraw, view: View) -> None:
        """Draw the ground with ticks every 0.5 m and labels every meter."""
        x = view.center[0]
        floor = view.to_pixels(view.center)[1] + view.center[1] * view.scale
        pen.rectangle((0, floor, FRAME_WIDTH_PX, max(FRAME_HEIGHT_PX, floor)), fill=GROUND_COLOR)
        half_width = FRAME_WIDTH_PX / 2 / view.scale
        for tick in np.arange(np.ceil((x - half_width) * 2), np.floor((x + half_width) * 2) + 1) / 2:
            column = view.to_pixels((tick, 0))[0]
            pen.line((column, floor, column, floor + 6), fill=TICK_COLOR, width=2)
            if tick == round(tick):
                pen.text((column - 8, floor + 8), f"{tick:.0f} m", fill=TICK_COLOR, font=self._font)

    def _draw_muscles(self, pen: ImageDraw.ImageDraw, view: View) -> None:
        """Draw the path of each muscle, colored by its activation."""
        state = self._simulator.state
        for muscle in self._simulator.muscles.values():
            activation = float(np.clip(muscle.getActivation(state), 0, 1))
            color = tuple((RESTING_COLOR + activation * (ACTIVE_COLOR - RESTING_COLOR)).astype(int).tolist())
            path = muscle.getGeometryPath().getCurrentPath(state)
            points = [path.get(i).getLocationInGround(state).to_numpy() for i in range(path.getSize())]
            pen.line([view.to_pixels(point) for point in points], fill=color, width=2)

    def _locate(self, frame: Any) -> np.ndarray:
        """Return the ground position (3,), m, of a joint's frame, a marker or a body's center of mass."""
        state = self._simulator.state
        if hasattr(frame, "getLocationInGround"):
            return frame.getLocationInGround(state).to_numpy()
        if hasattr(frame, "getMassCenter"):
            return frame.findStationLocationInGround(state, frame.getMassCenter()).to_numpy()
        return frame.getPositionInGround(state).to_numpy()


def _draw_circle(
    pen: ImageDraw.ImageDraw, view: View, x: float, y: float, radius: float, color: tuple[int, int, int]
) -> None:
    (left, top), (right, bottom) = view.to_pixels((x - radius, y + radius)), view.to_pixels((x + radius, y - radius))
    pen.ellipse((left, top, right, bottom), outline=color, width=2)


def _is_left(frame: Any) -> bool:
    return frame.getName().removesuffix("_offset").endswith("_l")


def _find_bones(model: Any, tips: Mapping[str, str]) -> list[tuple[Any, Any]]:
    """Return the two ends of each bone: joint frames, markers, or bodies for their centers of mass.

    Bones connect the parent joint of a body to its child joints, and to its center of mass if the body is a trunk or
    has no child joint.
    """
    joints = model.getJointSet()
    parent_frames: dict[str, Any] = {}  # body → frame of its parent joint
    child_frames: dict[str, list[Any]] = {}  # body → frames of its child joints
    for index in range(joints.getSize()):
        child = joints.get(index).getChildFrame()
        parent_frames[child.findBaseFrame().getName()] = child
        child_frames.setdefault(joints.get(index).getParentFrame().findBaseFrame().getName(), []).append(child)
    bodies = [model.getBodySet().get(index) for index in range(model.getBodySet().getSize())]
    limbs = [(parent_frames[body.getName()], end) for body in bodies for end in child_frames.get(body.getName(), [])]
    markers = model.getMarkerSet()
    ends = {body.getName(): body for body in bodies} | {name: markers.get(tip) for name, tip in tips.items()}
    return limbs + [(parent_frames[name], end) for name, end in ends.items() if len(child_frames.get(name, [])) != 1]


def _draw_map(
    pen: ImageDraw.ImageDraw, path: Sequence[tuple[float, float]], targets: Sequence[tuple[float, float]]
) -> None:
    """Draw a map of the path and the targets into the upper right corner, forward pointing up."""
    left, top, scale = FRAME_WIDTH_PX - MAP_SIZE_PX - 10, 10, MAP_SIZE_PX / MAP_SIZE_M

    def to_pixels(point: tuple[float, float]) -> tuple[float, float]:
        x, y = np.clip(point, -MAP_SIZE_M / 2, MAP_SIZE_M / 2) - 0.0
        return left + MAP_SIZE_PX / 2 - y * scale, top + MAP_SIZE_PX / 2 - x * scale

    pen.rectangle((left, top, left + MAP_SIZE_PX, top + MAP_SIZE_PX), fill=MAP_COLOR, outline=TICK_COLOR)
    for target in targets:
        x, y = to_pixels(target)
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), outline=TARGET_COLOR, width=2)
    if len(path) > 1:
        pen.line([to_pixels(point) for point in path], fill=BONE_COLOR, width=1)
    x, y = to_pixels(path[-1])
    pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=POSITION_COLOR)
