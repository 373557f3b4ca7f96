"""`OsimWalkAround`: a model of two legs and 22 muscles follows a field of velocities to its sinks and stays there.

NeurIPS 2019, "Learn to Move: Walk Around", second round (Song et al. 2021, "Deep reinforcement learning for modeling
human locomotion control in neuromechanical simulation").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from milozero.environments.opensim.env import Walker
from milozero.environments.opensim.simulator import CONTROL_STEP, GRAVITY
from milozero.environments.opensim.velocity_field import VelocityField

# A leg's muscles in the order of actions and observations.
MUSCLES = (
    "abd",
    "add",
    "iliopsoas",
    "glut_max",
    "hamstrings",
    "rect_fem",
    "vasti",
    "bifemsh",
    "gastroc",
    "soleus",
    "tib_ant",
)
# A leg's joints, with the sign that makes abduction, extension and plantar flexion positive.
JOINTS = {"hip_adduction": -1, "hip_flexion": -1, "knee_angle": 1, "ankle_angle": -1}
CONTACT = 0.05  # body weights on a foot, from which on it stands
ALIVE, STEP_TIME, STEP_VELOCITY, STEP_EFFORT, SINK = 0.1, 10.0, 3.0, 1.0, 500.0  # weights of the reward
FEW_STEPS = 5  # more of them must have been made for the unfinished one to count at the time limit
POSE = {"pelvis_ty": 0.94}


class WalkAround(Walker):
    """Walk where the field points, as fast as it says.

    The reward of a control step is 0.1; of a step of a foot, 10 Δt − 3 ‖Σ (v − v_target) dt‖ − Σ activation² dt since
    the one before; of a sink where the model stayed for its time, 500. As published, a landing and a sink pay with
    the control step after them.

    Actions are the published order, right leg first: abductors, adductors, hip flexors, gluteus maximus, hamstrings,
    rectus femoris, vasti, short head of biceps femoris, gastrocnemius, soleus, tibialis anterior.
    """

    MODEL = "gait14dof22musc_20170320"
    LIMIT = 2500

    def __init__(self, render_mode: str | None = None, preset: str = "train", frame_skip: int = 1) -> None:
        super().__init__(render_mode, preset, frame_skip)
        simulator = self.simulator
        ordered = [f"{name}_{side}" for side in "rl" for name in MUSCLES]
        self._place = [ordered.index(name) for name in simulator.muscles]
        self._weight = simulator.mass * GRAVITY  # N
        self._legs = {side: [simulator.muscles[f"{name}_{side}"] for name in MUSCLES] for side in "rl"}
        muscles = simulator.muscles.values()
        self._strongest = {m.getName(): m.getMaxIsometricForce() for m in muscles}  # N
        self._optimal = {m.getName(): m.getOptimalFiberLength() for m in muscles}  # m

    def observation_names(self) -> list[str]:
        """Return what each of the 339 elements is."""
        places = range(-5, 6)
        joints = ("hip abduction", "hip extension", "knee extension", "ankle plantar flexion")
        kinds = ("force, maxima", "fiber length, optima", "fiber velocity, optima/s")
        leg = (
            *(f"ground force {way}, body weights" for way in ("forward", "outward", "up")),
            *(f"{joint}{kind}" for kind in (", rad", " speed, rad/s") for joint in joints),
            *(f"{muscle} {kind}" for muscle in MUSCLES for kind in kinds),
        )
        return [
            *(
                f"target velocity {axis} {forward} m ahead, {leftward} m to the left, m/s"
                for axis in ("forward", "leftward")
                for forward in places
                for leftward in places
            ),
            *("pelvis height, m", "pitch forward, rad", "roll right, rad"),
            *("forward velocity, m/s", "leftward velocity, m/s", "upward velocity, m/s"),
            *("pitch velocity, rad/s", "roll velocity, rad/s", "yaw velocity, rad/s"),
            *(f"{side} {quantity}" for side in ("right", "left") for quantity in leg),
        ]

    def _excitations(self, action: np.ndarray) -> np.ndarray:
        return action[self._place] if action.shape == self.action_space.shape else action

    def _begin(self) -> None:
        self.simulator.reset(POSE)
        self._stood = {"r": True, "l": True}
        self._landed, self._footsteps, self._at_sink = False, 0, False
        self._seconds, self._effort, self._error = 0.0, 0.0, np.zeros(2)  # since the last landing that was paid
        self._field = VelocityField(self.np_random)
        self._way = [self._position()]
        self._field.update(self._position(), CONTROL_STEP)

    def _position(self) -> np.ndarray:
        """Return where the pelvis is in the field's plane (2,): forward and leftward, m."""
        x, _, z = self._pelvis.position
        return np.array([x, -z])

    def _observe(self) -> np.ndarray:
        simulator, yaw = self.simulator, self.simulator.value("pelvis_rotation")
        forward, right = self._turned(self._pelvis.velocity, yaw)
        body = [
            simulator.value("pelvis_ty"),
            -simulator.value("pelvis_tilt"),
            simulator.value("pelvis_list"),
            forward,
            -right,
            self._pelvis.velocity[1],
            -simulator.speed("pelvis_tilt"),
            simulator.speed("pelvis_list"),
            simulator.speed("pelvis_rotation"),
        ]
        field = self._field.seen(self._position(), yaw).reshape(-1)
        return np.concatenate([field, body, self._leg("r", yaw), self._leg("l", yaw)])

    @staticmethod
    def _turned(vector: np.ndarray, yaw: float) -> tuple[float, float]:
        """Return a ground frame's vector (3,), forward and rightward as the model looks."""
        x, _, z = vector
        return float(np.cos(yaw) * x - np.sin(yaw) * z), float(np.sin(yaw) * x + np.cos(yaw) * z)

    def _leg(self, side: str, yaw: float) -> list[float]:
        simulator, state = self.simulator, self.simulator.state
        force = -simulator.force(f"foot_{side}")[:3] / self._weight  # of the ground on the foot
        forward, right = self._turned(force, yaw)
        numbers = [forward, right if side == "r" else -right, float(force[1])]
        numbers += [sign * simulator.value(f"{joint}_{side}") for joint, sign in JOINTS.items()]
        numbers += [sign * simulator.speed(f"{joint}_{side}") for joint, sign in JOINTS.items()]
        for muscle in self._legs[side]:
            strongest, optimal = self._strongest[muscle.getName()], self._optimal[muscle.getName()]
            numbers.append(muscle.getFiberForce(state) / strongest)
            numbers.append(muscle.getFiberLength(state) / optimal)
            numbers.append(muscle.getFiberVelocity(state) / optimal)
        return numbers

    def _reward(self) -> float:
        x, _, z = self._pelvis.velocity
        self._seconds += CONTROL_STEP
        self._effort += float(np.square(self.simulator.activations()).sum()) * CONTROL_STEP
        self._error += (np.array([x, -z]) - self._field.at(self._position())) * CONTROL_STEP
        lasted = self.control_steps >= self.LIMIT and not self._terminated() and self._footsteps > FEW_STEPS
        reward = ALIVE
        if self._landed or lasted:
            reward += STEP_TIME * self._seconds - STEP_EFFORT * self._effort
            reward -= STEP_VELOCITY * float(np.linalg.norm(self._error))
            self._seconds, self._effort, self._error = 0.0, 0.0, np.zeros(2)
        if self._at_sink:
            reward += SINK
        self._look()
        return reward

    def _look(self) -> None:
        """Take note of landings and sinks, which the next control step pays for."""
        stands = {side: -self.simulator.force(f"foot_{side}")[1] > CONTACT * self._weight for side in "rl"}
        self._landed = any(stands[side] and not self._stood[side] for side in "rl")
        self._footsteps += self._landed
        self._stood = stands
        self._at_sink = self._field.update(self._position(), CONTROL_STEP)
        self._way.append(self._position())

    def _info(self) -> dict[str, Any]:
        return {"sinks_left": self._field.sinks_left, "footsteps": self._footsteps}

    def _caption(self) -> str:
        away = float(np.linalg.norm(self._field.sink - self._position()))
        return f"{super()._caption()}   {away:4.1f} m to the sink"

    def _above(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]] | None:
        return [(x, y) for x, y in self._way[::10] + self._way[-1:]], [(self._field.sink[0], self._field.sink[1])]


class WalkAround2D(WalkAround):
    """The same with a model that cannot leave its plane: sinks beside its way are out of its reach, as published."""

    MODEL = "gait14dof22musc_planar_20170320"
