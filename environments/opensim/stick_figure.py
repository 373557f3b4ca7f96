"""Renders a model as a stick figure from its right: bones, contact spheres, and muscles colored by activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


Point = tuple[float, float]
Color = tuple[int, int, int]


class StickFigure:
    """Draws the current state of a simulator, `width` m wide.

    `tips` maps bodies to the markers at the ends of their bones; the default is the body's center of mass.
    """

    def __init__(self, simulator: Simulator, width: float, tips: Mapping[str, str]) -> None:
        self._simulator = simulator
        self._scale = FRAME_WIDTH_PX / width  # pixels per m
        self._center = (0.0, 0.0)  # of the frame, m
        self._font = ImageFont.load_default(16)
        bones = _find_bones(simulator.model, tips)
        self._bones = sorted(bones, key=lambda bone: not _is_left(bone[0]))  # the left leg is drawn first, behind
        spheres = [simulator.sphere(geometry) for geometry in simulator.model.getContactGeometrySet()]
        self._spheres = [sphere for sphere in spheres if sphere is not None]

    def draw(
        self,
        center: Point,
        caption: str,
        targets: Sequence[tuple[float, float, float]],
        top_view: tuple[Sequence[Point], Sequence[Point]] | None,
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
        self._center = center
        self._draw_ground(pen)
        for get_position, radius in self._spheres:
            x, y, _ = get_position()
            self._draw_circle(pen, x, y, radius, FOOT_COLOR)
        for start, end in self._bones:
            color = LEFT_BONE_COLOR if _is_left(start) else BONE_COLOR
            pen.line([self._to_pixels(self._locate(start)), self._to_pixels(self._locate(end))], fill=color, width=5)
        self._draw_muscles(pen)
        for x, y, radius in targets:
            self._draw_circle(pen, x, y, radius, TARGET_COLOR)
        if top_view is not None:
            _draw_map(pen, *top_view)
        name = self._simulator.model.getName()
        pen.text((10, 8), f"{name}   {caption}", fill=TEXT_COLOR, font=self._font)
        return np.asarray(image).copy()

    def _to_pixels(self, point: Any) -> Point:
        """Return the column and row of a point, whose first two elements are x and y, m."""
        column = FRAME_WIDTH_PX / 2 + (point[0] - self._center[0]) * self._scale
        return column, FRAME_HEIGHT_PX / 2 - (point[1] - self._center[1]) * self._scale

    def _draw_ground(self, pen: ImageDraw.ImageDraw) -> None:
        """Draw the ground with ticks every 0.5 m and labels every meter."""
        x, y = self._center
        floor = self._to_pixels(self._center)[1] + y * self._scale
        pen.rectangle((0, floor, FRAME_WIDTH_PX, max(FRAME_HEIGHT_PX, floor)), fill=GROUND_COLOR)
        half_width = FRAME_WIDTH_PX / 2 / self._scale
        for tick in np.arange(np.ceil((x - half_width) * 2), np.floor((x + half_width) * 2) + 1) / 2:
            column = self._to_pixels((tick, 0))[0]
            pen.line((column, floor, column, floor + 6), fill=TICK_COLOR, width=2)
            if tick == round(tick):
                pen.text((column - 8, floor + 8), f"{tick:.0f} m", fill=TICK_COLOR, font=self._font)

    def _draw_muscles(self, pen: ImageDraw.ImageDraw) -> None:
        """Draw the path of each muscle, colored by its activation."""
        state = self._simulator.state
        for muscle in self._simulator.muscles.values():
            activation = float(np.clip(muscle.getActivation(state), 0, 1))
            color = tuple((RESTING_COLOR + activation * (ACTIVE_COLOR - RESTING_COLOR)).astype(int).tolist())
            path = muscle.getGeometryPath().getCurrentPath(state)
            points = [path.get(i).getLocationInGround(state).to_numpy() for i in range(path.getSize())]
            pen.line([self._to_pixels(point) for point in points], fill=color, width=2)

    def _draw_circle(self, pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: Color) -> None:
        corners = self._to_pixels((x - radius, y + radius)), self._to_pixels((x + radius, y - radius))
        pen.ellipse(corners, outline=color, width=2)

    def _locate(self, frame: Any) -> np.ndarray:
        """Return the ground position (3,), m, of a joint's frame, a marker or a body's center of mass."""
        state = self._simulator.state
        if hasattr(frame, "getLocationInGround"):
            return frame.getLocationInGround(state).to_numpy()
        if hasattr(frame, "getMassCenter"):
            return frame.findStationLocationInGround(state, frame.getMassCenter()).to_numpy()
        return frame.getPositionInGround(state).to_numpy()


def _is_left(frame: Any) -> bool:
    return frame.getName().removesuffix("_offset").endswith("_l")


def _find_bones(model: Any, tips: Mapping[str, str]) -> list[tuple[Any, Any]]:
    """Return the two ends of each bone: joint frames, markers, or bodies for their centers of mass.

    Bones connect the parent joint of a body to its child joints, and to its center of mass if the body is a trunk or
    has no child joint.
    """
    parent_frames: dict[str, Any] = {}  # body → frame of its parent joint
    child_frames: dict[str, list[Any]] = {}  # body → frames of its child joints
    for joint in model.getJointSet():
        child = joint.getChildFrame()
        parent_frames[child.findBaseFrame().getName()] = child
        child_frames.setdefault(joint.getParentFrame().findBaseFrame().getName(), []).append(child)
    bodies = {body.getName(): body for body in model.getBodySet()}
    limbs = [(parent_frames[name], end) for name in bodies for end in child_frames.get(name, [])]
    ends = bodies | {name: model.getMarkerSet().get(tip) for name, tip in tips.items()}
    return limbs + [(parent_frames[name], end) for name, end in ends.items() if len(child_frames.get(name, [])) != 1]


def _draw_map(pen: ImageDraw.ImageDraw, path: Sequence[Point], targets: Sequence[Point]) -> None:
    """Draw a map of the path and the targets into the upper right corner, forward pointing up."""
    left, top, scale = FRAME_WIDTH_PX - MAP_SIZE_PX - 10, 10, MAP_SIZE_PX / MAP_SIZE_M

    def to_pixels(point: Point) -> Point:
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
