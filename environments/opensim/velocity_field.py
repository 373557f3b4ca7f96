"""The target velocity field of the NeurIPS 2019 challenge "Learn to Move: Walk Around".

The axes of its plane are X = x (forward) and Y = −z (leftward). The field points to a *sink*, at which the model must
stay for some seconds before the next sink is set.
"""

from __future__ import annotations

import numpy as np

NODE_SPACING_M, HALF_WIDTH_M = 0.5, 20.0  # of the map
NODES = round(2 * HALF_WIDTH_M / NODE_SPACING_M) + 1  # per axis
MIN_SPEED, MAX_SPEED = 0.8, 1.8  # m/s
MIN_SINK_DISTANCE_M, MAX_SINK_DISTANCE_M = 5.0, 7.0  # between consecutive sinks
NUM_SINKS = 2
MIN_STAY_S, MAX_STAY_S = 2.0, 4.0  # required at a sink
SINK_RADIUS_M = 0.3
VIEW_OFFSETS_M = np.arange(-5.0, 6.0)  # where the model observes the field, along both axes of its own frame


class VelocityField:
    """A map of velocities around the model that leads to a sequence of sinks.

    `rng` samples the sinks. The field of the last one remains.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self.sinks_left = rng, NUM_SINKS
        self._heading, self.sink = 0.0, np.zeros(2)
        self._stay = 0.0  # time at the current sink, s
        self._next_sink(np.zeros(2))

    def _next_sink(self, position: np.ndarray) -> None:
        """Place a sink ahead of the last one and recompute the map around a position (2,), m."""
        rng = self._rng
        distance = rng.uniform(MIN_SINK_DISTANCE_M, MAX_SINK_DISTANCE_M)
        self._heading += rng.uniform(-np.pi, np.pi)
        self.sink = self.sink + distance * np.array([np.cos(self._heading), np.sin(self._heading)])
        phase, self.required_stay = rng.uniform(-np.pi, np.pi), rng.uniform(MIN_STAY_S, MAX_STAY_S)
        self.center = position.copy()
        self.map = make_map(self.center, self.sink, float(np.linalg.norm(self.sink - position)), phase)

    def update(self, position: np.ndarray, seconds: float) -> bool:
        """Advance the time; return whether the model, at `position` (2,), has just completed its stay at a sink."""
        at_sink = np.linalg.norm(self.sink - position) < SINK_RADIUS_M
        self._stay = self._stay + seconds if at_sink else 0.0
        if self._stay <= self.required_stay or self.sinks_left == 0:
            return False
        self._stay = 0.0
        self.sinks_left -= 1
        if self.sinks_left > 0:
            self._next_sink(position)
        return True

    def velocity_at(self, points: np.ndarray) -> np.ndarray:
        """Interpolate the velocities (..., 2), m/s, at points (..., 2), m, clamped to the map."""
        cells = np.clip((points - self.center + HALF_WIDTH_M) / NODE_SPACING_M, 0, NODES - 1)
        low = np.minimum(cells.astype(int), NODES - 2)
        fraction = (cells - low)[..., None]
        i, j = low[..., 0], low[..., 1]
        x, y = fraction[..., 0, :], fraction[..., 1, :]
        lower = (1 - x) * self.map[i, j] + x * self.map[i + 1, j]
        upper = (1 - x) * self.map[i, j + 1] + x * self.map[i + 1, j + 1]
        return (1 - y) * lower + y * upper

    def local_field(self, position: np.ndarray, yaw: float) -> np.ndarray:
        """Return the field around the model (2, 11, 11), m/s, in the model's frame.

        The axes are the velocity component (forward, leftward), the forward offset and the leftward offset.
        """
        to_ground = rotation(yaw)
        offsets = np.stack(np.meshgrid(VIEW_OFFSETS_M, VIEW_OFFSETS_M, indexing="ij"), axis=-1)  # (11, 11, 2)
        velocities = self.velocity_at(position + offsets @ to_ground.T) @ to_ground  # in the model's frame
        return np.moveaxis(velocities, -1, 0)


def make_map(center: np.ndarray, sink: np.ndarray, distance: float, phase: float) -> np.ndarray:
    """Return a map (81, 81, 2), m/s, around `center` whose velocities all point to `sink`.

    The speed is maximal far from the sink, a sine wave with wavelength `distance` on the way, and decreases to 0
    within 1 m of the sink.
    """
    axis = np.arange(NODES) * NODE_SPACING_M - HALF_WIDTH_M
    nodes = center + np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    to_sink = sink - nodes
    sink_distance = np.linalg.norm(to_sink, axis=-1, keepdims=True)
    mean, amplitude = (MIN_SPEED + MAX_SPEED) / 2, (MAX_SPEED - MIN_SPEED) / 2
    wave = mean + amplitude * np.sin(phase + 2 * np.pi * np.maximum(sink_distance, 1.0) / distance)
    speed = np.where(sink_distance > distance + 1.0, MAX_SPEED, wave * np.minimum(sink_distance, 1.0))
    return speed * to_sink / np.maximum(sink_distance, 1e-12)


def rotation(angle: float) -> np.ndarray:
    """Return the matrix (2, 2) of a counterclockwise rotation by `angle`, rad."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
