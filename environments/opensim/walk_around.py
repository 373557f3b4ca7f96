"""`OsimWalkAround`: a model with two legs and 22 muscles follows a velocity field to its sinks, where it must stay.

NeurIPS 2019, "Learn to Move: Walk Around", second round (Song et al. 2021, "Deep reinforcement learning for modeling
human locomotion control in neuromechanical simulation").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from milozero.environments.opensim.env import Walker
from milozero.environments.opensim.simulator import CONTROL_STEP_S, GRAVITY
from milozero.environments.opensim.stick_figure import Point
from milozero.environments.opensim.velocity_field import VelocityField

# A leg's muscles, in the order of actions and observations.
MUSCLES = (
    *("abd", "add", "iliopsoas", "glut_max", "hamstrings", "rect_fem"),
    *("vasti", "bifemsh", "gastroc", "soleus", "tib_ant"),
)
# A leg's joints, with the sign that makes abduction, extension and plantar flexion positive.
JOINTS = {"hip_adduction": -1, "hip_flexion": -1, "knee_angle": 1, "ankle_angle": -1}
MIN_CONTACT_FORCE = 0.05  # body weights on a foot in contact with the ground
ALIVE_BONUS, SINK_BONUS = 0.1, 500.0
STEP_TIME_WEIGHT, STEP_VELOCITY_WEIGHT, STEP_EFFORT_WEIGHT = 10.0, 3.0, 1.0  # reward of a footstep
MIN_FOOTSTEPS = 5  # at the time limit, an unfinished footstep is only rewarded after more than these
INITIAL_POSE = {"pelvis_ty": 0.94}  # m


class WalkAround(Walker):
    """Follow the velocity field.

    The reward is 0.1 per control step; 10 Δt − 3 ‖Σ (v − v_target) dt‖ − Σ activation² dt per footstep, summed since
    the previous footstep; and 500 for staying at a sink long enough. As published, footsteps and sinks are rewarded
    in the next control step.

    Actions are in the published order, right leg first: abductors, adductors, hip flexors, gluteus maximus,
    hamstrings, rectus femoris, vasti, short head of biceps femoris, gastrocnemius, soleus, tibialis anterior.
    """

    MODEL = "gait14dof22musc_20170320"
    MAX_CONTROL_STEPS = 2500

    def __init__(self, render_mode: str | None = None, preset: str = "train", frame_skip: int = 1) -> None:
        super().__init__(render_mode, preset, frame_skip)
        simulator = self.simulator
        action_names = [f"{name}_{side}" for side in "rl" for name in MUSCLES]
        self._action_index = [action_names.index(name) for name in simulator.muscles]
        self._weight = simulator.mass * GRAVITY  # N
        self._legs = {side: [simulator.muscles[f"{name}_{side}"] for name in MUSCLES] for side in "rl"}
        muscles = simulator.muscles.items()
        self._scales = {name: (m.getMaxIsometricForce(), m.getOptimalFiberLength()) for name, m in muscles}  # N, m

    def observation_names(self) -> list[str]:
        """Return the names of the 339 elements."""
        offsets = range(-5, 6)
        joints = ("hip abduction", "hip extension", "knee extension", "ankle plantar flexion")
        quantities = ("force, maxima", "fiber length, optima", "fiber velocity, optima/s")
        leg = (
            *(f"ground force {direction}, body weights" for direction in ("forward", "outward", "up")),
            *(f"{joint}{quantity}" for quantity in (", rad", " speed, rad/s") for joint in joints),
            *(f"{muscle} {quantity}" for muscle in MUSCLES for quantity in quantities),
        )
        return [
            *(
                f"target velocity {axis} {forward} m ahead, {leftward} m to the left, m/s"
                for axis in ("forward", "leftward")
                for forward in offsets
                for leftward in offsets
            ),
            *("pelvis height, m", "pitch forward, rad", "roll right, rad"),
            *("forward velocity, m/s", "leftward velocity, m/s", "upward velocity, m/s"),
            *("pitch velocity, rad/s", "roll velocity, rad/s", "yaw velocity, rad/s"),
            *(f"{side} {quantity}" for side in ("right", "left") for quantity in leg),
        ]

    def _to_excitations(self, action: np.ndarray) -> np.ndarray:
        return action[self._action_index] if action.shape == self.action_space.shape else action

    def _reset_task(self) -> None:
        self.simulator.reset(INITIAL_POSE)
        self._in_contact = {"r": True, "l": True}
        self._landed, self._footsteps, self._at_sink = False, 0, False
        self._duration, self._effort, self._error = 0.0, 0.0, np.zeros(2)  # since the last rewarded landing
        self._field = VelocityField(self.np_random)
        self._path = [self._position()]
        self._field.update(self._position(), CONTROL_STEP_S)

    def _position(self) -> np.ndarray:
        """Return the pelvis position in the plane of the field (2,): forward and leftward, m."""
        x, _, z = self._pelvis.position
        return np.array([x, -z])

    def _get_obs(self) -> np.ndarray:
        simulator, yaw = self.simulator, self.simulator.value("pelvis_rotation")
        field = self._field.local_field(self._position(), yaw).reshape(-1)
        pose = simulator.value("pelvis_ty"), -simulator.value("pelvis_tilt"), simulator.value("pelvis_list")
        forward, right = self._rotate_to_heading(self._pelvis.velocity, yaw)
        velocity = forward, -right, self._pelvis.velocity[1]
        rates = -simulator.speed("pelvis_tilt"), simulator.speed("pelvis_list"), simulator.speed("pelvis_rotation")
        legs = self._get_leg_obs("r", yaw) + self._get_leg_obs("l", yaw)
        return np.concatenate([field, pose, velocity, rates, legs])

    @staticmethod
    def _rotate_to_heading(vector: np.ndarray, yaw: float) -> tuple[float, float]:
        """Return the forward and rightward components, relative to the model's heading, of a ground vector (3,)."""
        x, _, z = vector
        return float(np.cos(yaw) * x - np.sin(yaw) * z), float(np.sin(yaw) * x + np.cos(yaw) * z)

    def _get_leg_obs(self, side: str, yaw: float) -> list[float]:
        simulator, state = self.simulator, self.simulator.state
        force = -simulator.force(f"foot_{side}")[:3] / self._weight  # of the ground on the foot
        forward, right = self._rotate_to_heading(force, yaw)
        obs = [forward, right if side == "r" else -right, float(force[1])]
        obs += [sign * simulator.value(f"{joint}_{side}") for joint, sign in JOINTS.items()]
        obs += [sign * simulator.speed(f"{joint}_{side}") for joint, sign in JOINTS.items()]
        for muscle in self._legs[side]:
            max_force, optimal_length = self._scales[muscle.getName()]
            obs.append(muscle.getFiberForce(state) / max_force)
            obs.append(muscle.getFiberLength(state) / optimal_length)
            obs.append(muscle.getFiberVelocity(state) / optimal_length)
        return obs

    def _get_reward(self) -> float:
        x, _, z = self._pelvis.velocity
        self._duration += CONTROL_STEP_S
        self._effort += float(np.square(self.simulator.activations()).sum()) * CONTROL_STEP_S
        self._error += (np.array([x, -z]) - self._field.velocity_at(self._position())) * CONTROL_STEP_S
        at_limit = self.control_steps >= self.MAX_CONTROL_STEPS and not self._is_terminated()
        reward = ALIVE_BONUS
        if self._landed or (at_limit and self._footsteps > MIN_FOOTSTEPS):
            reward += STEP_TIME_WEIGHT * self._duration - STEP_EFFORT_WEIGHT * self._effort
            reward -= STEP_VELOCITY_WEIGHT * float(np.linalg.norm(self._error))
            self._duration, self._effort, self._error = 0.0, 0.0, np.zeros(2)
        if self._at_sink:
            reward += SINK_BONUS
        self._detect_events()
        return reward

    def _detect_events(self) -> None:
        """Detect landings and reached sinks, which the next control step rewards."""
        min_force = MIN_CONTACT_FORCE * self._weight
        in_contact = {side: -self.simulator.force(f"foot_{side}")[1] > min_force for side in "rl"}
        self._landed = any(in_contact[side] and not self._in_contact[side] for side in "rl")
        self._footsteps += self._landed
        self._in_contact = in_contact
        self._at_sink = self._field.update(self._position(), CONTROL_STEP_S)
        self._path.append(self._position())

    def _get_info(self) -> dict[str, Any]:
        return {"sinks_left": self._field.sinks_left, "footsteps": self._footsteps}

    def _caption(self) -> str:
        distance = float(np.linalg.norm(self._field.sink - self._position()))
        return f"{super()._caption()}   {distance:4.1f} m to the sink"

    def _top_view(self) -> tuple[list[Point], list[Point]]:
        return [(x, y) for x, y in self._path[::10] + self._path[-1:]], [(self._field.sink[0], self._field.sink[1])]


class WalkAround2D(WalkAround):
    """Planar model. As published, it cannot reach sinks outside its plane."""

    MODEL = "gait14dof22musc_planar_20170320"
