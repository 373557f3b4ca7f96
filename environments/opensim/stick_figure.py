"""A model as a stick figure, seen from its right: bones, contact spheres, muscles the redder the more active."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from milozero.environments.opensim.simulator import Simulator

WIDTH, HEIGHT = 640, 480
SKY, GROUND, TICK = (245, 247, 250), (214, 205, 190), (150, 140, 120)
BONE, FAR, FOOT = (60, 70, 90), (140, 150, 170), (150, 150, 165)  # FAR: of the left leg
TEXT, SIGHT = (40, 40, 40), (30, 140, 60)
RESTING, ACTIVE = np.array([120, 150, 210]), np.array([220, 30, 30])
MAP = 150  # pixels, side of the view from above


class StickFigure:
    """Draws the state that a simulator is in at each `draw`.

    Args:
        simulator: of the model.
        width: m that a frame shows.
        tips: body → the marker where its bone ends, where it is not in the body's middle.
    """

    def __init__(self, simulator: Simulator, width: float, tips: Mapping[str, str]) -> None:
        self._simulator = simulator
        self._scale = WIDTH / width  # pixels per m
        self._font = ImageFont.load_default(16)
        self._bones = sorted(
            _bones(simulator.model, tips), key=lambda bone: not _is_left(bone[0])
        )  # behind comes first
        geometry = simulator.model.getContactGeometrySet()
        spheres = [simulator.sphere(geometry.get(i)) for i in range(geometry.getSize())]
        self._spheres = [sphere for sphere in spheres if sphere is not None]

    def draw(
        self,
        center: tuple[float, float],
        caption: str = "",
        sights: Sequence[tuple[float, float, float]] = (),
        above: tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]] | None = None,
    ) -> np.ndarray:
        """Return a frame (480, 640, 3) uint8.

        Args:
            center: x and y, m, of its middle.
            caption: text in its corner.
            sights: circles beside the model: x, y and radius, m.
            above: of a map from above, the way gone and the targets: x forward and y left, m. None for no map.
        """
        image = Image.new("RGB", (WIDTH, HEIGHT), SKY)
        pen = ImageDraw.Draw(image)
        state, model = self._simulator.state, self._simulator.model

        def at(point: Any) -> tuple[float, float]:
            return (
                WIDTH / 2 + (point[0] - center[0]) * self._scale,
                HEIGHT / 2 - (point[1] - center[1]) * self._scale,
            )

        def circle(x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
            (left, top), (right, bottom) = at((x - radius, y + radius)), at((x + radius, y - radius))
            pen.ellipse((left, top, right, bottom), outline=color, width=2)

        floor = at(center)[1] + center[1] * self._scale
        pen.rectangle((0, floor, WIDTH, max(HEIGHT, floor)), fill=GROUND)
        half = WIDTH / 2 / self._scale
        for tick in np.arange(np.ceil((center[0] - half) * 2), np.floor((center[0] + half) * 2) + 1) / 2:
            x = at((tick, 0))[0]
            pen.line((x, floor, x, floor + 6), fill=TICK, width=2)
            if tick == round(tick):
                pen.text((x - 8, floor + 8), f"{tick:.0f} m", fill=TICK, font=self._font)
        for ground, radius in ((sphere(), radius) for sphere, radius in self._spheres):
            circle(ground[0], ground[1], radius, FOOT)
        for start, end in self._bones:
            color = FAR if _is_left(start) else BONE
            pen.line([at(self._place(start)), at(self._place(end))], fill=color, width=5)
        for muscle in self._simulator.muscles.values():
            share = float(np.clip(muscle.getActivation(state), 0, 1))
            color = tuple((RESTING + share * (ACTIVE - RESTING)).astype(int).tolist())
            path = muscle.getGeometryPath().getCurrentPath(state)
            points = [path.get(i).getLocationInGround(state).to_numpy() for i in range(path.getSize())]
            pen.line([at(point) for point in points], fill=color, width=2)
        for x, y, radius in sights:
            circle(x, y, radius, SIGHT)
        if above is not None:
            _map(pen, *above)
        pen.text((10, 8), f"{model.getName()}   {caption}", fill=TEXT, font=self._font)
        return np.asarray(image).copy()

    def _place(self, frame: Any) -> np.ndarray:
        """Return where a joint's frame, a marker or a body's center of mass is (3,), m, in the ground frame."""
        state = self._simulator.state
        if hasattr(frame, "getLocationInGround"):
            return frame.getLocationInGround(state).to_numpy()
        if hasattr(frame, "getMassCenter"):
            return frame.findStationLocationInGround(state, frame.getMassCenter()).to_numpy()
        return frame.getPositionInGround(state).to_numpy()


def _is_left(frame: Any) -> bool:
    return frame.getName().removesuffix("_offset").endswith("_l")


def _bones(model: Any, tips: Mapping[str, str]) -> list[tuple[Any, Any]]:
    """Return the frames, or a body whose center of mass is meant, or a marker, that each bone lies between.

    They go from the joint that holds a body to the joints that it holds, and to its own middle where it is a trunk or
    an end.
    """
    joints = model.getJointSet()
    held: dict[str, Any] = {}  # body → the frame of the joint that holds it
    holds: dict[str, list[Any]] = {}  # body → those of the joints that it holds
    for index in range(joints.getSize()):
        child = joints.get(index).getChildFrame()
        held[child.findBaseFrame().getName()] = child
        holds.setdefault(joints.get(index).getParentFrame().findBaseFrame().getName(), []).append(child)
    bodies = [model.getBodySet().get(index) for index in range(model.getBodySet().getSize())]
    limbs = [(held[body.getName()], end) for body in bodies for end in holds.get(body.getName(), [])]
    markers = model.getMarkerSet()
    ends = {body.getName(): body for body in bodies} | {name: markers.get(tip) for name, tip in tips.items()}
    return limbs + [(held[name], end) for name, end in ends.items() if len(holds.get(name, [])) != 1]


def _map(
    pen: ImageDraw.ImageDraw, way: Sequence[tuple[float, float]], targets: Sequence[tuple[float, float]]
) -> None:
    """Draw where the model went and should go, from above, north being forward and 20 m wide, into the corner."""
    left, top, scale = WIDTH - MAP - 10, 10, MAP / 20

    def at(point: tuple[float, float]) -> tuple[float, float]:
        x, y = np.clip(point, -10, 10) - 0.0
        return left + MAP / 2 - y * scale, top + MAP / 2 - x * scale

    pen.rectangle((left, top, left + MAP, top + MAP), fill=(255, 255, 255), outline=TICK)
    for target in targets:
        x, y = at(target)
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), outline=SIGHT, width=2)
    if len(way) > 1:
        pen.line([at(point) for point in way], fill=BONE, width=1)
    x, y = at(way[-1])
    pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(220, 30, 30))
