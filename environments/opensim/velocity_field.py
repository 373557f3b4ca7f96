"""The field of target velocities of NeurIPS 2019's challenge "Learn to Move: Walk Around".

It lies in a plane of two axes, forward X = x and leftward Y = −z, and points to a *sink*, where the model is to stand
for some seconds before the next one is set.
"""

from __future__ import annotations

import numpy as np

SPACING, HALF = 0.5, 20.0  # m, between the map's nodes, and from its center to its edge
NODES = round(2 * HALF / SPACING) + 1  # a side
SLOWEST, FASTEST = 0.8, 1.8  # m/s
NEAREST, FARTHEST = 5.0, 7.0  # m, from one sink to the next
SHORTEST, LONGEST = 2.0, 4.0  # s, to stay at a sink
REACHED = 0.3  # m, near enough to be there
VIEW = np.arange(-5.0, 6.0)  # m, where the model sees the field, in steps of its own frame


class VelocityField:
    """A map of velocities around the model, and the sinks that it leads to.

    Args:
        rng: draws the sinks.
        turn: rad, largest angle between the ways to two sinks.
        sinks: how many there are; the last one's field stays.
    """

    def __init__(self, rng: np.random.Generator, turn: float = np.pi, sinks: int = 2) -> None:
        self._rng, self._turn, self.sinks_left = rng, turn, sinks
        self._heading, self.sink = 0.0, np.zeros(2)
        self._stayed = 0.0  # s, at the present sink
        self._next_sink(np.zeros(2))

    def _next_sink(self, position: np.ndarray) -> None:
        """Set a sink ahead of the last one, and draw the map anew around a position (2,)."""
        rng = self._rng
        distance = rng.uniform(NEAREST, FARTHEST)
        self._heading += rng.uniform(-self._turn, self._turn)
        self.sink = self.sink + distance * np.array([np.cos(self._heading), np.sin(self._heading)])
        phase, self.hold = rng.uniform(-np.pi, np.pi), rng.uniform(SHORTEST, LONGEST)
        self.center = position.copy()
        self.map = sink_field(self.center, self.sink, float(np.linalg.norm(self.sink - position)), phase)

    def update(self, position: np.ndarray, seconds: float) -> bool:
        """Return whether the model, now at `position` (2,), has just stayed at a sink for long enough."""
        here = np.linalg.norm(self.sink - position) < REACHED
        self._stayed = self._stayed + seconds if here else 0.0
        if self._stayed <= self.hold or self.sinks_left == 0:
            return False
        self._stayed = 0.0
        self.sinks_left -= 1
        if self.sinks_left > 0:
            self._next_sink(position)
        return True

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the velocities (..., 2), m/s, at points (..., 2), m; beyond the map, those of its edge."""
        cells = np.clip((points - self.center + HALF) / SPACING, 0, NODES - 1)
        low = np.minimum(cells.astype(int), NODES - 2)
        share = (cells - low)[..., None]
        i, j = low[..., 0], low[..., 1]
        x, y = share[..., 0, :], share[..., 1, :]
        below = (1 - x) * self.map[i, j] + x * self.map[i + 1, j]
        above = (1 - x) * self.map[i, j + 1] + x * self.map[i + 1, j + 1]
        return (1 - y) * below + y * above

    def seen(self, position: np.ndarray, yaw: float) -> np.ndarray:
        """Return the field (2, 11, 11), m/s, in the model's own frame.

        The first axis is forward and leftward velocity, the second the place forward, the third the place leftward.
        """
        turn = rotation(yaw)
        offsets = np.stack(np.meshgrid(VIEW, VIEW, indexing="ij"), axis=-1)  # (11, 11, 2)
        velocities = self.at(position + offsets @ turn.T) @ turn  # rotated back
        return np.moveaxis(velocities, -1, 0)


def sink_field(center: np.ndarray, sink: np.ndarray, distance: float, phase: float) -> np.ndarray:
    """Return the velocities (81, 81, 2), m/s, of a map around `center` whose every node leads to `sink`.

    Far from it they are fastest, on the way waves of the wavelength `distance`, and within 1 m they fall to 0.
    """
    axis = np.arange(NODES) * SPACING - HALF
    nodes = center + np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    ways = sink - nodes
    away = np.linalg.norm(ways, axis=-1, keepdims=True)
    mean, swing = (SLOWEST + FASTEST) / 2, (FASTEST - SLOWEST) / 2
    wave = mean + swing * np.sin(phase + 2 * np.pi * np.maximum(away, 1.0) / distance)
    speed = np.where(away > distance + 1.0, FASTEST, wave * np.minimum(away, 1.0))
    return speed * ways / np.maximum(away, 1e-12)


def rotation(angle: float) -> np.ndarray:
    """Return the matrix (2, 2) that turns a vector to the left by an angle, rad."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
