"""`OsimL2Run`: a planar model with two legs and 18 muscles runs as far as possible (osim-rl's L2Run)."""

from __future__ import annotations

import numpy as np

from milozero.environments.opensim.env import Walker

JOINTS = ("hip_flexion_l", "hip_flexion_r", "knee_angle_l", "knee_angle_r", "ankle_angle_l", "ankle_angle_r")
BODIES = ("head", "pelvis", "torso", "toes_l", "toes_r", "talus_l", "talus_r")
PELVIS = ("pelvis_tilt", "pelvis_tx", "pelvis_ty")


class L2Run(Walker):
    """Run; the reward of a control step is the forward displacement of the pelvis, m.

    The published observation space has 41 elements, but its code returned 43. Here the center of mass, which moves in
    a plane, has two coordinates, which gives 41. The last five, psoas strength and an obstacle, are always 0: the
    model has neither.
    """

    MODEL = "gait9dof18musc"
    MAX_CONTROL_STEPS = 1000

    def observation_names(self) -> list[str]:
        """Return the names of the 41 elements."""
        return [
            *("pelvis tilt, rad", "pelvis x, m", "pelvis y, m"),
            *("pelvis tilt speed, rad/s", "pelvis x speed, m/s", "pelvis y speed, m/s"),
            *(f"{joint} {quantity}" for joint in JOINTS for quantity in ("angle, rad", "speed, rad/s")),
            *(f"{body} origin {axis}, m" for body in BODIES for axis in "xy"),
            *("center of mass x, m", "center of mass y, m"),
            *("center of mass x speed, m/s", "center of mass y speed, m/s"),
            *(f"always 0 ({k})" for k in range(5)),
        ]

    def _reset_task(self) -> None:
        self.simulator.reset()
        self._bodies = [self.simulator.body(name) for name in BODIES]
        self._x = self.simulator.value("pelvis_tx")

    def _get_obs(self) -> np.ndarray:
        simulator = self.simulator
        position, velocity, _ = simulator.center_of_mass()
        return np.array([
            *map(simulator.value, PELVIS),
            *map(simulator.speed, PELVIS),
            *(get(joint) for joint in JOINTS for get in (simulator.value, simulator.speed)),
            *(x for body in self._bodies for x in body.position[:2]),
            *position[:2],
            *velocity[:2],
            *np.zeros(5),
        ])  # fmt: skip

    def _get_reward(self) -> float:
        previous_x, self._x = self._x, self.simulator.value("pelvis_tx")
        return self._x - previous_x

    def _caption(self) -> str:
        return f"{super()._caption()}   {self._x:5.2f} m"
