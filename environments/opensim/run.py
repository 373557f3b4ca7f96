"""`OsimL2Run`: a planar model of two legs and eighteen muscles runs as far as it can (osim-rl's L2Run)."""

from __future__ import annotations

import numpy as np

from milozero.environments.opensim.env import Walker

JOINTS = ("hip_flexion_l", "hip_flexion_r", "knee_angle_l", "knee_angle_r", "ankle_angle_l", "ankle_angle_r")
BODIES = ("head", "pelvis", "torso", "toes_l", "toes_r", "talus_l", "talus_r")
PELVIS = ("pelvis_tilt", "pelvis_tx", "pelvis_ty")


class L2Run(Walker):
    """Run; the reward of a control step is the way that the pelvis has gone forward in it, m.

    The published space has 41 numbers and its code returned 43: here the center of mass, which moves in a plane, has
    two coordinates, which gives 41. The last five were a psoas strength and an obstacle that no model has, and are 0.
    """

    MODEL = "gait9dof18musc"
    LIMIT = 1000

    def observation_names(self) -> list[str]:
        """Return what each of the 41 elements is."""
        return [
            *("pelvis tilt, rad", "pelvis x, m", "pelvis y, m"),
            *("pelvis tilt speed, rad/s", "pelvis x speed, m/s", "pelvis y speed, m/s"),
            *(f"{joint} {kind}" for joint in JOINTS for kind in ("angle, rad", "speed, rad/s")),
            *(f"{body} origin {axis}, m" for body in BODIES for axis in "xy"),
            *("center of mass x, m", "center of mass y, m"),
            *("center of mass x speed, m/s", "center of mass y speed, m/s"),
            *(f"always 0 ({k})" for k in range(5)),
        ]

    def _begin(self) -> None:
        self.simulator.reset()
        self._bodies = [self.simulator.body(name) for name in BODIES]

    def _observe(self) -> np.ndarray:
        simulator = self.simulator
        position, velocity, _ = simulator.center_of_mass()
        return np.array([
            *map(simulator.value, PELVIS),
            *map(simulator.speed, PELVIS),
            *(quantity(joint) for joint in JOINTS for quantity in (simulator.value, simulator.speed)),
            *(x for body in self._bodies for x in body.position[:2]),
            *position[:2],
            *velocity[:2],
            *np.zeros(5),
        ])  # fmt: skip

    def _before(self) -> None:
        self._was = self.simulator.value("pelvis_tx")

    def _reward(self) -> float:
        return self.simulator.value("pelvis_tx") - self._was

    def _caption(self) -> str:
        return f"{super()._caption()}   {self.simulator.value('pelvis_tx'):5.2f} m"
