"""`OsimProsthetics`: a model with a prosthesis for its right shank walks at a speed.

NeurIPS 2018, "AI for Prosthetics" (Kidziński et al. 2020, "Artificial intelligence for prosthetics: challenge
solutions"). Version 0 is the challenge's first round, version 1 its second.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from milozero.environments.opensim.env import Walker

BODIES = ("head", "torso", "toes_l", None, "talus_l", None)  # None: the right leg's, which the prosthesis has not
JOINTS = {
    "ankle_l": ("ankle_angle_l",),
    "ankle_r": ("ankle_angle_r",),
    "back": ("lumbar_extension",),
    "hip_l": ("hip_flexion_l", "hip_adduction_l", "hip_rotation_l"),
    "hip_r": ("hip_flexion_r", "hip_adduction_r", "hip_rotation_r"),
    "knee_l": ("knee_angle_l",),
    "knee_r": ("knee_angle_r",),
}
# Of the round with a changing target: speed, m/s, and heading, rad, at first and their largest changes; between two
# changes lie a Poisson number of control steps.
FIRST_SPEED, SPEED_CHANGE, HEADING_CHANGE, BETWEEN = 1.25, 0.5, np.pi / 8, 300


class ProstheticsRound1(Walker):
    """Walk at 3 m/s; the reward of a control step is 9 − (vx − 3)² with the pelvis' forward velocity vx, m/s.

    The observation are the published challenge's 160 numbers. Horizontal and vertical positions and pitches are
    relative to the pelvis, velocities and accelerations are not.
    """

    MODEL = "gait14dof22musc_pros_20180507"
    LIMIT = 300

    def observation_names(self) -> list[str]:
        """Return what each of the 160 elements is."""
        quantities = (
            *("x, m", "y, m", "x velocity, m/s", "y velocity, m/s", "x acceleration, m/s²", "y acceleration, m/s²"),
            *("pitch, rad", "pitch velocity, rad/s", "pitch acceleration, rad/s²"),
        )
        bodies = [
            name or missing
            for name, missing in zip(BODIES, ("", "", "", "toes_r (0)", "", "talus_r (0)"), strict=True)
        ]
        return [
            *(f"pelvis {quantity}" for quantity in quantities[1:]),
            *(f"{body} {quantity}" for body in bodies for quantity in quantities),
            *(
                f"{coordinate} {kind}"
                for coordinates in JOINTS.values()
                for kind in ("position, rad", "speed, rad/s", "acceleration, rad/s²")
                for coordinate in coordinates
            ),
            *(
                f"{muscle} {kind}"
                for muscle in sorted(self.simulator.muscles)
                for kind in ("activation", "fiber length, m", "fiber velocity, m/s")
            ),
            *("center of mass x, m", "center of mass y, m"),
            *(f"center of mass {axis} velocity, m/s" for axis in "xyz"),
            *(f"center of mass {axis} acceleration, m/s²" for axis in "xyz"),
        ]

    def _begin(self) -> None:
        self.simulator.reset()
        self._bodies = [self.simulator.body(name) if name else None for name in BODIES]

    def _observe(self) -> np.ndarray:
        simulator = self.simulator
        pelvis = _planar(self._pelvis)
        origin = np.zeros(9)
        origin[[0, 1, 6]] = pelvis[[0, 1, 6]]
        bodies = [_planar(body) - origin if body is not None else np.zeros(9) for body in self._bodies]
        joints = [
            quantity(coordinate)
            for coordinates in JOINTS.values()
            for quantity in (simulator.value, simulator.speed, simulator.acceleration)
            for coordinate in coordinates
        ]
        state = simulator.state
        muscles = [
            quantity
            for _, muscle in sorted(simulator.muscles.items())
            for quantity in (
                muscle.getActivation(state),
                muscle.getFiberLength(state),
                muscle.getFiberVelocity(state),
            )
        ]
        position, velocity, acceleration = simulator.center_of_mass()
        return np.concatenate(
            [pelvis[1:], *bodies, joints, muscles, position[:2] - pelvis[:2], velocity, acceleration]
        )

    def _reward(self) -> float:
        return 9.0 - (self._pelvis.velocity[0] - 3.0) ** 2

    def _caption(self) -> str:
        return f"{super()._caption()}   {self._pelvis.velocity[0]:5.2f} m/s"


class ProstheticsRound2(ProstheticsRound1):
    """Walk at a speed and heading that change about every three seconds.

    The reward of a control step is 10 − 0.001 Σ activation² − (vx − tx)² − (vz − tz)², t the target velocity, which
    follows as three numbers (x, 0, z) on the 160 of the first round. The published code told the target in a
    dictionary and not in its vector.
    """

    LIMIT = 1000

    def observation_names(self) -> list[str]:
        """Return what each of the 163 elements is."""
        return super().observation_names() + [f"target velocity {axis}, m/s" for axis in "xyz"]

    def _begin(self) -> None:
        super()._begin()
        self.targets = self._draw_targets()

    def _draw_targets(self) -> np.ndarray:
        """Return the target velocity (LIMIT + 1, 3), m/s, after each number of control steps."""
        rng, speed, heading = self.np_random, FIRST_SPEED, 0.0
        changes = set(np.cumsum(rng.poisson(BETWEEN, 10)).tolist())
        targets = np.zeros((self.LIMIT + 1, 3))
        for step in range(self.LIMIT + 1):
            if step in changes and step > 0:
                speed += rng.uniform(-SPEED_CHANGE, SPEED_CHANGE)
                heading += rng.uniform(-HEADING_CHANGE, HEADING_CHANGE)
            targets[step] = speed * np.cos(heading), 0.0, speed * np.sin(heading)
        return targets

    def _observe(self) -> np.ndarray:
        return np.concatenate([super()._observe(), self.targets[self.control_steps]])

    def _reward(self) -> float:
        target, velocity = self.targets[self.control_steps], self._pelvis.velocity
        effort = float(np.square(self.simulator.activations()).sum())
        return 10.0 - 0.001 * effort - (velocity[0] - target[0]) ** 2 - (velocity[2] - target[2]) ** 2

    def _caption(self) -> str:
        target = self.targets[self.control_steps]
        return (
            f"{super()._caption()} of {target[0]:5.2f}, sideways {self._pelvis.velocity[2]:5.2f} of {target[2]:5.2f}"
        )


def _planar(body: Any) -> np.ndarray:
    """Return position, velocity, acceleration in x and y and the turn about z, with its rates (9,), of a body."""
    return np.array([
        *body.position[:2],
        *body.velocity[:2],
        *body.acceleration[:2],
        body.angles[2],
        body.angular_velocity[2],
        body.angular_acceleration[2],
    ])  # fmt: skip
