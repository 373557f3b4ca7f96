"""`OsimArm2D`: a planar arm with two joints and six muscles reaches for a target (osim-rl's Arm2D)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from milozero.environments.opensim.env import OsimEnv

SHOULDER_HEIGHT_M = 0.8
MIN_TARGET_DISTANCE_M, MAX_TARGET_DISTANCE_M = 0.3, 0.65  # from the shoulder
MAX_TARGET_ANGLE_RAD = 2 * np.pi / 3  # from forward, downward
JOINTS = {"shoulder": "r_shoulder_elev", "elbow": "r_elbow_flex"}
TIP = "r_radius_styloid"  # wrist marker, the published fingertip


class Arm2D(OsimEnv):
    """Hold the tip of the arm at a target; the reward of a control step is 1 − ‖tip − target‖².

    Three defects of the published task are fixed. The first observation held the target of the previous episode. The
    joints had no limits. The long head of the biceps wraps around an ellipsoid, which made the muscle 9 cm longer at
    a shoulder angle of 0.515 rad and its force NaN at 0.545 rad; here the ellipsoid is disabled. That shortens the
    muscle by 1.7 to 3.4 mm for shoulder angles from 0 to 0.5 rad, by up to 17 mm below, and not at all above.
    """

    MODEL = "arm2dof6musc"
    MAX_CONTROL_STEPS = 200
    JOINT_LIMITS_DEG: ClassVar[dict[str, tuple[float, float]]] = {
        "r_shoulder_elev": (-90, 180),
        "r_elbow_flex": (0, 130),
    }
    FRAME_WIDTH_M = 2.0
    BONE_TIPS: ClassVar[dict[str, str]] = {"r_ulna_radius_hand": TIP}

    def _patch_model(self, model: Any) -> None:
        humerus = model.getBodySet().get("r_humerus").getWrapObjectSet()
        humerus.get("BIClonghh").set_active(False)

    def observation_names(self) -> list[str]:
        """Return the names of the 16 elements."""
        quantities = ("angle, rad", "speed, rad/s", "acceleration, rad/s²")
        joints = [f"{joint} {quantity}" for joint in JOINTS for quantity in quantities]
        muscles = [f"activation of {muscle}" for muscle in self._sorted_muscles()]
        return ["target x, m", "target y, m", *joints, *muscles, "tip x, m", "tip y, m"]

    def _sorted_muscles(self) -> list[str]:
        return sorted(self.simulator.muscles, key=str.upper)

    def _reset_task(self) -> None:
        angle = self.np_random.uniform(0, MAX_TARGET_ANGLE_RAD)
        radius = self.np_random.uniform(MIN_TARGET_DISTANCE_M, MAX_TARGET_DISTANCE_M)
        self.target = np.array([radius * np.cos(angle), SHOULDER_HEIGHT_M - radius * np.sin(angle)])
        self.simulator.reset()

    def _tip(self) -> np.ndarray:
        return self.simulator.marker(TIP)[:2]

    def _get_obs(self) -> np.ndarray:
        simulator = self.simulator
        joints = [
            get(joint)
            for joint in JOINTS.values()
            for get in (simulator.value, simulator.speed, simulator.acceleration)
        ]
        activations = [simulator.muscles[name].getActivation(simulator.state) for name in self._sorted_muscles()]
        return np.array([*self.target, *joints, *activations, *self._tip()])

    def _get_reward(self) -> float:
        return 1.0 - float(np.square(self._tip() - self.target).sum())

    def _get_info(self) -> dict[str, Any]:
        return {"distance": float(np.linalg.norm(self._tip() - self.target))}  # m

    def _camera_center(self) -> tuple[float, float]:
        return 0.2, 0.6

    def _caption(self) -> str:
        return f"{super()._caption()}   {100 * self._get_info()['distance']:4.1f} cm"

    def _target_circles(self) -> list[tuple[float, float, float]]:
        return [(*self.target.tolist(), 0.02)]
