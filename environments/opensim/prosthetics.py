"""`OsimProsthetics`: a model with a right below-knee prosthesis walks at a target speed.

NeurIPS 2018, "AI for Prosthetics" (Kidziński et al. 2020, "Artificial intelligence for prosthetics: challenge
solutions"). Version 0 is the challenge's first round, version 1 its second.
"""

from __future__ import annotations

import numpy as np

from milozero.environments.opensim.env import Walker

BODIES = ("head", "torso", "toes_l", "toes_r", "talus_l", "talus_r")
ABSENT = ("toes_r", "talus_r")  # replaced by the prosthesis; the observation contains zeros instead
JOINTS = {
    "ankle_l": ("ankle_angle_l",),
    "ankle_r": ("ankle_angle_r",),
    "back": ("lumbar_extension",),
    "hip_l": ("hip_flexion_l", "hip_adduction_l", "hip_rotation_l"),
    "hip_r": ("hip_flexion_r", "hip_adduction_r", "hip_rotation_r"),
    "knee_l": ("knee_angle_l",),
    "knee_r": ("knee_angle_r",),
}
# Target velocity of round 2; the number of control steps between two changes is Poisson distributed.
INITIAL_SPEED, MAX_SPEED_CHANGE = 1.25, 0.5  # m/s
MAX_HEADING_CHANGE_RAD = np.pi / 8
MEAN_STEPS_BETWEEN_CHANGES = 300


class ProstheticsRound1(Walker):
    """Walk at 3 m/s; the reward of a control step is 9 − (vx − 3)² with vx the forward velocity of the pelvis, m/s.

    The observation has the 160 elements of the published challenge. Horizontal and vertical positions and pitches are
    relative to the pelvis; velocities and accelerations are not.
    """

    MODEL = "gait14dof22musc_pros_20180507"
    MAX_CONTROL_STEPS = 300

    def observation_names(self) -> list[str]:
        """Return the names of the 160 elements."""
        quantities = (
            *("x, m", "y, m", "x velocity, m/s", "y velocity, m/s", "x acceleration, m/s²", "y acceleration, m/s²"),
            *("pitch, rad", "pitch velocity, rad/s", "pitch acceleration, rad/s²"),
        )
        bodies = [f"{name} (0)" if name in ABSENT else name for name in BODIES]
        return [
            *(f"pelvis {quantity}" for quantity in quantities[1:]),
            *(f"{body} {quantity}" for body in bodies for quantity in quantities),
            *(
                f"{coordinate} {quantity}"
                for coordinates in JOINTS.values()
                for quantity in ("position, rad", "speed, rad/s", "acceleration, rad/s²")
                for coordinate in coordinates
            ),
            *(
                f"{muscle} {quantity}"
                for muscle in sorted(self.simulator.muscles)
                for quantity in ("activation", "fiber length, m", "fiber velocity, m/s")
            ),
            *("center of mass x, m", "center of mass y, m"),
            *(f"center of mass {axis} velocity, m/s" for axis in "xyz"),
            *(f"center of mass {axis} acceleration, m/s²" for axis in "xyz"),
        ]

    def _reset_task(self) -> None:
        self.simulator.reset()
        self._bodies = [None if name in ABSENT else self.simulator.body(name) for name in BODIES]

    def _get_obs(self) -> np.ndarray:
        simulator = self.simulator
        pelvis = self._pelvis.planar_kinematics()
        origin = np.zeros(9)
        origin[[0, 1, 6]] = pelvis[[0, 1, 6]]
        bodies = [np.zeros(9) if body is None else body.planar_kinematics() - origin for body in self._bodies]
        joints = [
            get(coordinate)
            for coordinates in JOINTS.values()
            for get in (simulator.value, simulator.speed, simulator.acceleration)
            for coordinate in coordinates
        ]
        state = simulator.state
        muscles = [
            quantity
            for _, m in sorted(simulator.muscles.items())
            for quantity in (m.getActivation(state), m.getFiberLength(state), m.getFiberVelocity(state))
        ]
        position, velocity, acceleration = simulator.center_of_mass()
        return np.concatenate(
            [pelvis[1:], *bodies, joints, muscles, position[:2] - pelvis[:2], velocity, acceleration]
        )

    def _get_reward(self) -> float:
        return 9.0 - (self._pelvis.velocity[0] - 3.0) ** 2

    def _caption(self) -> str:
        return f"{super()._caption()}   {self._pelvis.velocity[0]:5.2f} m/s"


class ProstheticsRound2(ProstheticsRound1):
    """Walk at a target velocity whose speed and heading change about every three seconds.

    The reward of a control step is 10 − 0.001 Σ activation² − (vx − tx)² − (vz − tz)², with the target velocity t.
    The observation appends it as (tx, 0, tz) to the 160 elements of round 1; the published code returned it only in
    its dictionary observation, not in the vector.
    """

    MAX_CONTROL_STEPS = 1000

    def observation_names(self) -> list[str]:
        """Return the names of the 163 elements."""
        return super().observation_names() + [f"target velocity {axis}, m/s" for axis in "xyz"]

    def _reset_task(self) -> None:
        super()._reset_task()
        self.targets = self._sample_targets()

    def _sample_targets(self) -> np.ndarray:
        """Return the target velocity after each control step (MAX_CONTROL_STEPS + 1, 3), m/s."""
        rng, speed, heading = self.np_random, INITIAL_SPEED, 0.0
        changes = set(np.cumsum(rng.poisson(MEAN_STEPS_BETWEEN_CHANGES, 10)).tolist())
        targets = np.zeros((self.MAX_CONTROL_STEPS + 1, 3))
        for step in range(self.MAX_CONTROL_STEPS + 1):
            if step in changes and step > 0:
                speed += rng.uniform(-MAX_SPEED_CHANGE, MAX_SPEED_CHANGE)
                heading += rng.uniform(-MAX_HEADING_CHANGE_RAD, MAX_HEADING_CHANGE_RAD)
            targets[step] = speed * np.cos(heading), 0.0, speed * np.sin(heading)
        return targets

    def _get_obs(self) -> np.ndarray:
        return np.concatenate([super()._get_obs(), self.targets[self.control_steps]])

    def _get_reward(self) -> float:
        target, velocity = self.targets[self.control_steps], self._pelvis.velocity
        effort = float(np.square(self.simulator.activations()).sum())
        return 10.0 - 0.001 * effort - (velocity[0] - target[0]) ** 2 - (velocity[2] - target[2]) ** 2

    def _caption(self) -> str:
        target = self.targets[self.control_steps]
        return (
            f"{super()._caption()} of {target[0]:5.2f}, sideways {self._pelvis.velocity[2]:5.2f} of {target[2]:5.2f}"
        )
