"""The kinematics of one body of a model."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Simulation(Protocol):
    """The part of a `Simulator` that a body needs."""

    model: Any
    state: Any


class Body:
    """Kinematics of a body in the current state, in the ground frame: x forward, y up, z to the right."""

    def __init__(self, simulator: Simulation, name: str) -> None:
        self._simulator = simulator
        self._body = simulator.model.getBodySet().get(name)

    @property
    def position(self) -> np.ndarray:
        """Position of the origin (3,), m."""
        return self._body.getPositionInGround(self._simulator.state).to_numpy()

    @property
    def velocity(self) -> np.ndarray:
        """Velocity of the origin (3,), m/s."""
        return self._body.getLinearVelocityInGround(self._simulator.state).to_numpy()

    @property
    def acceleration(self) -> np.ndarray:
        """Acceleration of the origin (3,), m/s²."""
        return self._body.getLinearAccelerationInGround(self._simulator.state).to_numpy()

    @property
    def angles(self) -> np.ndarray:
        """Body-fixed XYZ angles (3,), rad."""
        rotation = self._body.getTransformInGround(self._simulator.state).R()
        return rotation.convertRotationToBodyFixedXYZ().to_numpy()

    @property
    def angular_velocity(self) -> np.ndarray:
        """Angular velocity (3,), rad/s."""
        return self._body.getAngularVelocityInGround(self._simulator.state).to_numpy()

    @property
    def angular_acceleration(self) -> np.ndarray:
        """Angular acceleration (3,), rad/s²."""
        return self._body.getAngularAccelerationInGround(self._simulator.state).to_numpy()
